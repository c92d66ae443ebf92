// What accepting a suspect does to the objects of its image. A suspect is an entry of `frcnn check --json`.

const REMOVED = new Set(["label without object", "duplicate label"]);
const SAME = 0.9; // IoU of a label with itself: the file holds rounded numbers

/** Whether accepting the suspect removes its label. */
export const removesLabel = ({ kind }) => REMOVED.has(kind);

/** The object that the suspect is about; null if it has none, or if the object was changed since. */
export function labelOf(suspect, objects, iou) {
  if (!suspect.label) return null;
  const close = objects.map((one) => [iou(one.box, suspect.label), one]).filter(([overlap]) => overlap >= SAME);
  const name = suspect.label_class ?? (suspect.kind === "wrong class" ? null : suspect.class);
  const isNamed = ([, one]) => name === null || one.name === name;
  return close.filter(isNamed).sort(([a], [b]) => b - a)[0]?.[1] ?? null;
}

/** The objects after the suspect is accepted; null if that would change nothing, because they were changed since. */
export function corrected(suspect, objects, iou, box, id) {
  if (!suspect.label) {
    const isThere = objects.some((one) => one.name === suspect.class && iou(one.box, box) >= SAME);
    return isThere ? null : [...objects, { id, box, name: suspect.class, ignore: false, source: "" }];
  }
  const label = labelOf(suspect, objects, iou);
  if (!label) return null;
  if (removesLabel(suspect)) return objects.filter((one) => one !== label);
  const changes = suspect.kind === "wrong class" ? { name: suspect.class } : { box };
  if (label.name === changes.name) return null;
  return objects.map((one) => (one === label ? { ...one, ...changes } : one));
}

/** What accepting the suspect does, in words. */
export function acceptText({ kind, class: name }) {
  if (kind === "object without label") return `add the label ${name}`;
  if (kind === "wrong class") return `change the class to ${name}`;
  return kind === "badly placed box" ? "move the box" : "remove the label";
}
