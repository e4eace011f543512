/**
 * What is remembered of the timers of one queue: how far they were delivered, and which ones were recalled. Owned by
 * `timers.ts`. It never holds a pending timer: their number has no small limit.
 */
import { invariant } from '../../common/assert.ts'
import { messages, nested, type Schema, schema, uint } from '../../common/protobuf-schema.ts'
import { compareTimers, type TimerKey, timerKeySchema } from '../../message/extensions.ts'
import { TimerList } from './timer-list.ts'

/** Timers that are delivered, and of those before the last of them the ones that are left. */
export interface Taken {
  readonly sources: readonly TimerKey[]
  readonly left: readonly TimerKey[]
  readonly asOf: number
}

/** All timers that came with entries up to `asOf` and lie up to `last` are delivered. */
interface TimerMark {
  readonly last: TimerKey
  readonly asOf: number
}

interface TimerQueueFields {
  readonly pending: number
  readonly takenAt: number
  readonly marks: readonly TimerMark[]
  readonly left: readonly TimerKey[]
}

const noTimer: TimerKey = { time: 0, index: 0, record: 0 }
/** No timer is due at the last moment there is: `dueTime` sees to it. */
const behindAll: TimerKey = { time: Number.MAX_SAFE_INTEGER, index: 0, record: 0 }

const markSchema: Schema<TimerMark> = schema<TimerMark>({ last: nested(1, timerKeySchema, noTimer), asOf: uint(2) })
const queueSchema: Schema<TimerQueueFields> = schema<TimerQueueFields>({
  pending: uint(1),
  takenAt: uint(2),
  marks: messages(3, markSchema),
  left: messages(4, timerKeySchema),
})

export class TimerQueue {
  readonly topicId: number
  readonly queue: number
  isDirty = false
  #pending = 0
  #takenAt = 0
  /**
   * Newest first. Timers that came while a delivery was under way may be due before its last one; when they do not fit
   * into the next delivery, that one ends before the mark of the first, which must stay. A third mark is never needed:
   * whoever takes has seen the last delivery, and what comes behind a delivery is due behind it.
   */
  #marks: readonly TimerMark[] = []
  /** Not passed by a delivery yet. */
  readonly #recalled = new TimerList()
  /** Pending although a mark has passed them. */
  readonly #left = new TimerList()

  constructor(topicId: number, queue: number, row?: Buffer) {
    this.topicId = topicId
    this.queue = queue
    if (!row) return
    const fields = queueSchema.decode(row)
    this.#pending = fields.pending
    this.#takenAt = fields.takenAt
    this.#marks = fields.marks
    this.#left.addAll(fields.left)
  }

  get pending(): number {
    return this.#pending
  }

  /** The entry by which timers were delivered last, 0 before any: whoever delivers must have seen it. */
  get takenAt(): number {
    return this.#takenAt
  }

  get recalledCount(): number {
    return this.#recalled.count
  }

  /** Exact for timers of this queue; one that never was cannot be told from one that waits. */
  isPending(key: TimerKey): boolean {
    if (this.#isPassed(key)) return this.#left.has(key)
    return !this.#recalled.has(key)
  }

  /** A delivery has passed this timer, because it could not be read. */
  isLeft(key: TimerKey): boolean {
    return this.#left.has(key)
  }

  get leftCount(): number {
    return this.#left.count
  }

  add(): void {
    this.#pending++
  }

  /**
   * Delivered by entry `index`: all pending ones up to the last of them, as of entry `asOf`, but for those that are left
   * and have been. Returns which recalled ones need no memory any more.
   */
  take({ sources, left, asOf }: Taken, index: number): readonly TimerKey[] {
    this.#pending -= sources.length
    invariant(this.#pending >= 0, 'B3: no more timers are delivered than were added')
    // One that was left before lies behind a mark already, and would only add another one.
    const last = sources.findLast((key) => !this.#isPassed(key))
    for (const key of sources) this.#left.delete(key)
    this.#left.addAll(left)
    this.#takenAt = index
    if (!last) return []
    const kept = this.#marks.filter((mark) => compareTimers(mark.last, last) > 0)
    this.#marks = [{ last, asOf }, ...kept]
    return this.#forgetRecalled()
  }

  /** False: nothing needs to be remembered of it. */
  recall(key: TimerKey): boolean {
    this.#pending--
    invariant(this.#pending >= 0, 'B3: no more timers are recalled than were added')
    this.#left.delete(key)
    if (this.#isPassed(key)) return false
    this.#recalled.add(key)
    return true
  }

  /** As it was found in the state store. */
  wasRecalled(key: TimerKey): void {
    this.#recalled.add(key)
  }

  /** The topic was deleted by entry `index`. */
  drop(index: number): readonly TimerKey[] {
    this.#pending = 0
    this.#left.clear()
    this.#marks = [{ last: behindAll, asOf: index }]
    this.#takenAt = index
    return this.#forgetRecalled()
  }

  encode(): Buffer {
    const left = this.#left.all
    return queueSchema.encode({ pending: this.#pending, takenAt: this.#takenAt, marks: this.#marks, left })
  }

  #isPassed(key: TimerKey): boolean {
    return this.#marks.some((mark) => covers(mark, key))
  }

  /** What a delivery has passed needs no memory of its own any more. */
  #forgetRecalled(): readonly TimerKey[] {
    const last = this.#marks.reduce((most, mark) => (compareTimers(mark.last, most) > 0 ? mark.last : most), noTimer)
    // But for those that came after the delivery was made: few, if any.
    const gone = this.#recalled.upTo(last).filter((key) => this.#isPassed(key))
    for (const key of gone) this.#recalled.delete(key)
    return gone
  }
}

function covers(mark: TimerMark, key: TimerKey): boolean {
  return key.index <= mark.asOf && compareTimers(key, mark.last) <= 0
}
