// Browsers start no worker for a page that is opened from a file. The search needs one, so there its script runs in a
// hidden frame instead. The name of this file tells zensical that it need not load such a script from the network.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(address) {
      const url = new URL(address, location.href).href
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc = "<!doctype html><title>search</title>"
      this.started = new Promise((resolve) => {
        this.frame.onload = () => {
          const inside = this.frame.contentWindow
          inside.postMessage = (data) => setTimeout((copy) => this.onmessage?.({ data: copy }), 0, structuredClone(data))
          const script = inside.document.createElement("script")
          script.src = url
          script.onload = () => resolve(inside)
          script.onerror = (event) => this.onerror?.(event)
          inside.document.head.append(script)
        }
      })
      document.documentElement.append(this.frame)
    }

    postMessage(data) {
      const copy = structuredClone(data)
      this.started.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data: copy })))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
