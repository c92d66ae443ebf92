"""Detections of many images, in files of many rows each (parts).

Several processes share a job: each takes the images of one shard. A process that is killed loses at most the part that
it was writing, and the next one resumes. `merge_parts` checks that no image is missing or duplicated.

A folder of parts holds:

* `part-0-000003.jsonl` (or `.parquet`): the fourth part of shard 0. Parts are written whole or not at all.
* `_shard-0-of-4.json`: the settings of the job, and what a finished shard has predicted.

A row is `{"image": name, "width": ..., "height": ..., "detections": [...]}`, or `{"image": name, "error": ...}` for an
image that cannot be predicted. The name is the path relative to the folder of the images, so that machines can mount
the folder at different places.
"""
