/**
 * Records as they lie in the log, read for whoever stores them once more: the timer service and what carries messages
 * forward. One reader for one round of work: it keeps the last entries, since neighbours often come from the same.
 */
import { type CommitLogApi, frameBody, StoreError } from '../../../store/index.ts'
import { readBatchHeader, readRecords } from '../../message/batch.ts'
import type { BatchHeader, RecordFields } from '../../message/types.ts'

/** Bytes of entries that one reader keeps. */
const keptBytesMax = 16 * 1024 * 1024

export interface StoredRecord {
  readonly record: RecordFields
  /** Milliseconds since the epoch. */
  readonly bornTime: number
  /** Of the batch that it lies in. */
  readonly header: BatchHeader
}

export interface RecordPlace {
  readonly index: number
  readonly position: number
  readonly record: number
}

interface KeptEntry {
  readonly header: BatchHeader
  readonly records: readonly RecordFields[]
  readonly bytes: number
}

export class StoredRecords {
  readonly #log: Pick<CommitLogApi, 'cachedAt' | 'readAt'>
  /** By position, the one used last at the end. */
  readonly #kept = new Map<number, KeptEntry>()
  #bytes = 0

  constructor(log: Pick<CommitLogApi, 'cachedAt' | 'readAt'>) {
    this.#log = log
  }

  /** Throws StoreError when the entry cannot be read now, ROTTEN among others. */
  async read(place: RecordPlace): Promise<StoredRecord> {
    const { header, records } = this.#kept.get(place.position) ?? (await this.#load(place))
    const record = records[place.record]
    if (!record) throw notThere(place)
    return { record, bornTime: header.baseBornTime + record.bornDelta, header }
  }

  async #load(place: RecordPlace): Promise<KeptEntry> {
    const frame = this.#log.cachedAt(place.position) ?? (await this.#log.readAt(place.position))
    // Between two generations of this node the log may be another one than the rows are from.
    if (frame.header.index !== place.index) throw notThere(place)
    const body = frameBody(frame)
    const entry = { header: readBatchHeader(body), records: readRecords(body), bytes: body.length }
    this.#kept.set(place.position, entry)
    this.#bytes += entry.bytes
    for (const [position, { bytes }] of this.#kept) {
      if (this.#bytes <= keptBytesMax || position === place.position) break
      this.#kept.delete(position)
      this.#bytes -= bytes
    }
    return entry
  }
}

function notThere({ index, position, record }: RecordPlace): StoreError {
  return new StoreError('OUT_OF_RANGE', `record ${record} of entry ${index} does not lie at ${position}`)
}
