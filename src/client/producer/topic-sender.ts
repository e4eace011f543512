/**
 * Sends the messages of one topic: gathers them into batches, chooses a queue for each batch, and keeps one batch in
 * flight per queue. Owned by the producer; makes the batch senders and is their owner.
 *
 * Round robin per batch over the queues of the groups that the fault strategy allows. A batch leaves at once while few
 * are in flight, and fills while they are: a lone message never waits and there is no linger timer.
 */
import type { Cancel, Clock, Random } from '../../common/clock.ts'
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import type { ConnectionPool } from '../connection.ts'
import type { FaultReport, FaultStrategy } from '../fault-strategy.ts'
import type { RouteCache } from '../route-cache.ts'
import type { LeaderChange } from '../route-table.ts'
import type { StatusHub } from '../status-hub.ts'
import type { MessageQueue } from '../types.ts'
import { Accumulator, type Unit } from './accumulator.ts'
import { type BatchOwner, BatchSender } from './batch-sender.ts'
import { anonymousProducer, Lane } from './lane.ts'
import { type SendItem, settle } from './send-item.ts'

/** Messages that time out while they wait are answered within this step. */
const expiryStepMs = 10
/** Between two tries to find or create the topic. */
const resolvePauseMs = 100

export interface TopicSenderOptions {
  readonly topic: string
  readonly routes: RouteCache
  readonly pool: ConnectionPool
  readonly clock: Clock
  readonly random: Random
  readonly status: StatusHub
  readonly faults: FaultStrategy
  readonly producerId: Buffer
  readonly attemptsPlanned: number
  readonly attemptTimeoutMsMin: number
  readonly eagerBatches: number
  readonly sendTimeoutMs: number
  /** Null: unknown topics are an error. */
  readonly createTopic: (() => Promise<void>) | null
  /** An attempt was reported to the fault strategy. */
  readonly onFault: () => void
  /** A message or batch has ended; the producer may be waiting for the last. */
  readonly onIdle: () => void
}

/** Gets the writable queues, gives one of them; may throw. */
type ChooseQueue = (queues: readonly MessageQueue[]) => MessageQueue

export class TopicSender implements BatchOwner {
  readonly routes: RouteCache
  readonly pool: ConnectionPool
  readonly clock: Clock
  readonly random: Random
  readonly attemptsPlanned: number
  readonly attemptTimeoutMsMin: number
  readonly #options: TopicSenderOptions
  readonly #waiting = new Accumulator()
  readonly #senders = new Set<BatchSender>()
  readonly #lanes = new Map<string, Lane>()
  readonly #inFlight = new Map<string, number>()
  readonly #stalledGroups = new Set<string>()
  /** Sends whose selector waits for the route, in order. */
  #undecided: { readonly unit: Unit; readonly choose: ChooseQueue }[] = []
  /** Writable queues now, in round robin order. */
  #order: readonly Lane[] = []
  #queues: readonly MessageQueue[] = []
  #groups: readonly { readonly group: string }[] = []
  #cursor: number
  #dispatchPlanned = false
  #resolving = false
  #pinnedCount = 0
  #resolveError: LedgerError | null = null
  #cancelExpiry: Cancel = () => {}
  #expiryAtMs = Number.POSITIVE_INFINITY

  constructor(options: TopicSenderOptions) {
    this.#options = options
    this.routes = options.routes
    this.pool = options.pool
    this.clock = options.clock
    this.random = options.random
    this.attemptsPlanned = options.attemptsPlanned
    this.attemptTimeoutMsMin = options.attemptTimeoutMsMin
    this.#cursor = Math.floor(options.random.next() * 1024)
    this.#readRoute()
  }

  /** Nothing waits and nothing is in flight. */
  get idle(): boolean {
    const nothingWaits = this.#waiting.records === 0 && this.#pinnedCount === 0 && this.#undecided.length === 0
    return nothingWaits && this.#senders.size === 0
  }

  add(unit: Unit): void {
    this.#waiting.add(unit)
    this.#armExpiry(unit)
    this.#planDispatch()
  }

  /** For sends with a selector. It runs at once when the queues are known, else as soon as they are. */
  addSelected(unit: Unit, choose: ChooseQueue): void {
    this.#undecided.push({ unit, choose })
    this.#armExpiry(unit)
    this.#decide()
    this.#planDispatch()
  }

  onRouteChanged(): void {
    this.#readRoute()
    if (!this.idle) this.#planDispatch()
  }

  onLeaderChanged(change: LeaderChange): void {
    for (const sender of [...this.#senders]) sender.onLeaderChanged(change)
  }

  /** A message was aborted by its caller, and is answered. */
  onAborted(unit: Unit): void {
    this.#waiting.remove(isSettled)
    this.#undecided = this.#undecided.filter((waiting) => !isSettled(waiting.unit))
    this.#removePinned(isSettled)
    for (const sender of [...this.#senders])
      if (unit.some((item) => sender.items.includes(item))) sender.onItemSettled()
    this.#planDispatch()
    this.#options.onIdle()
  }

  abandon(error: LedgerError): void {
    this.#refuseWaiting(error)
    for (const sender of [...this.#senders]) sender.abandon(error)
  }

  // What batch senders ask for.

  report(group: string, fault: FaultReport): void {
    this.#options.faults.updateFaultItem(group, fault, this.clock.monotonicMs())
    this.#options.onFault()
  }

  canMove(lane: Lane): boolean {
    return this.#choose(lane.queue.group, true) !== null
  }

  moveFrom(lane: Lane): Lane | null {
    const next = this.#choose(lane.queue.group, true)
    if (!next) return null
    this.#hold(next)
    this.#release(lane)
    // What waits for the queue that is free now need not wait for the end of the batch that left it.
    this.#planDispatch()
    return next
  }

  topicUnknown(lane: Lane, items: Unit, pinned: boolean): boolean {
    const { topic, group } = lane.queue
    if (!this.#options.createTopic) return false
    this.routes.topicUnknown(topic, group)
    this.#readRoute()
    // While other groups have the topic nobody creates it in this one, and what is pinned goes nowhere else.
    if (pinned && this.#order.length > 0) return false
    // Not stored anywhere: they wait again, in front, for the topic to come back.
    const units = unitsOf(items)
    if (pinned) {
      this.#lane(lane.queue).pinned.unshift(...units)
      this.#pinnedCount += units.length
    } else this.#waiting.putBack(units)
    for (const unit of units) this.#armExpiry(unit)
    return true
  }

  stalled(lane: Lane, startedMs: number, reason: LedgerError | null): void {
    const where = `${lane.queue.topic}/${lane.queue.group}`
    if (reason && this.#stalledGroups.has(where)) return
    if (reason) {
      this.#stalledGroups.add(where)
      const sinceMs = this.clock.monotonicMs() - startedMs
      this.#options.status.emit({ kind: 'stalled', what: 'producer', where, sinceMs, reason })
    } else if (this.#stalledGroups.delete(where)) {
      this.#options.status.emit({ kind: 'resumed', what: 'producer', where })
    }
  }

  finished(sender: BatchSender): void {
    this.#senders.delete(sender)
    this.#release(sender.lane)
    // Not at once: the callers that were just answered send again in this turn, and belong into the same batch.
    this.#planDispatch()
    this.#options.onIdle()
  }

  #planDispatch(): void {
    if (this.#dispatchPlanned) return
    this.#dispatchPlanned = true
    this.clock.defer(() => {
      this.#dispatchPlanned = false
      this.#dispatch()
    })
  }

  #dispatch(): void {
    if (this.#order.length === 0) {
      if (!this.idle) void this.#resolveInBackground()
      return
    }
    this.#decide()
    if (this.#pinnedCount > 0) this.#dispatchPinned()
    this.#dispatchWaiting()
    if (this.#waiting.records === 0 && this.#pinnedCount === 0) this.#disarmExpiry()
  }

  /** Lets the selectors choose, in the order of their sends. */
  #decide(): void {
    if (this.#queues.length === 0) return
    for (const { unit, choose } of this.#undecided.splice(0)) {
      try {
        this.#lane(choose(this.#queues)).pinned.push([...unit])
        this.#pinnedCount++
      } catch (cause) {
        settleUnit(unit, toLedgerError(cause))
        this.#options.onIdle()
      }
    }
  }

  #refuseWaiting(error: LedgerError): void {
    this.#disarmExpiry()
    for (const unit of this.#waiting.remove(() => true)) settleUnit(unit, error)
    for (const lane of this.#lanes.values()) for (const unit of lane.pinned.splice(0)) settleUnit(unit, error)
    this.#pinnedCount = 0
    for (const { unit } of this.#undecided.splice(0)) settleUnit(unit, error)
    this.#options.onIdle()
  }

  #dispatchWaiting(): void {
    while (this.#waiting.records > 0) {
      const lane = this.#choose(null, this.#waiting.full)
      if (!lane) return
      const items = this.#waiting.take()
      if (items.length > 0) this.#launch(lane, items, false)
    }
  }

  #dispatchPinned(): void {
    for (const lane of this.#lanes.values()) {
      if (lane.busy || lane.pinned.length === 0) continue
      const open = new Accumulator()
      for (const unit of lane.pinned) open.add(unit)
      const items = open.take()
      const rest = open.remove(() => true)
      this.#pinnedCount -= lane.pinned.length - rest.length
      lane.pinned.splice(0, lane.pinned.length, ...rest.map((unit) => [...unit]))
      if (items.length > 0) this.#launch(lane, items, true)
    }
  }

  #launch(lane: Lane, items: Unit, pinned: boolean): void {
    this.#hold(lane)
    try {
      const sender = new BatchSender(this, lane, items, pinned)
      this.#senders.add(sender)
      sender.start()
    } catch (cause) {
      this.#release(lane)
      settleUnit(items, toLedgerError(cause))
    }
  }

  /** The next idle queue in turn. `force`: even though enough batches are in flight to its group. */
  #choose(exceptGroup: string | null, force: boolean): Lane | null {
    const allowed = this.#options.faults.filter(this.#groups, exceptGroup, this.clock.monotonicMs())
    for (let step = 0; step < this.#order.length; step++) {
      const lane = this.#order[(this.#cursor + step) % this.#order.length]
      if (!lane || lane.busy || lane.queue.group === exceptGroup) continue
      if (lane.pinned.length > 0 || !allowed.some((entry) => entry.group === lane.queue.group)) continue
      if (!force && (this.#inFlight.get(lane.queue.group) ?? 0) >= this.#options.eagerBatches) continue
      return lane
    }
    return null
  }

  #hold(lane: Lane): void {
    lane.busy = true
    this.#cursor = (this.#order.indexOf(lane) + 1) % Math.max(1, this.#order.length)
    this.#inFlight.set(lane.queue.group, (this.#inFlight.get(lane.queue.group) ?? 0) + 1)
  }

  #release(lane: Lane): void {
    lane.busy = false
    this.#inFlight.set(lane.queue.group, (this.#inFlight.get(lane.queue.group) ?? 1) - 1)
  }

  #readRoute(): void {
    const queues = this.routes.table.queues(this.#options.topic, 'write')
    this.#queues = queues
    this.#order = queues.map((queue) => this.#lane(queue))
    this.#groups = [...new Set(queues.map((queue) => queue.group))].map((group) => ({ group }))
  }

  #lane(queue: MessageQueue): Lane {
    const topicId = this.routes.table.topicId(queue)
    const key = `${queue.group}/${queue.queue}`
    const known = this.#lanes.get(key)
    if (known && (known.topicId === topicId || topicId === 0)) return known
    // The topic was created again: what was pinned follows, the sequences start anew. Under a new name, because a
    // batch to the old topic may still be on its way and must not look like one of the new sequence.
    const isIdempotent = this.#options.producerId !== anonymousProducer
    const producerId = known && isIdempotent ? this.random.bytes(16) : this.#options.producerId
    const lane = new Lane(queue, topicId, producerId)
    if (known) lane.pinned.push(...known.pinned.splice(0))
    this.#lanes.set(key, lane)
    return lane
  }

  async #resolveInBackground(): Promise<void> {
    if (this.#resolving) return
    this.#resolving = true
    try {
      await this.#searchRoute()
    } catch (cause) {
      const error = toLedgerError(cause)
      this.#resolveError = error
      // A definite answer is one for all that wait; otherwise each waits until its own time is up.
      if (!error.retryable) this.#refuseWaiting(error)
      else await this.routes.changed(resolvePauseMs)
    } finally {
      this.#resolving = false
    }
    if (!this.idle) this.#planDispatch()
  }

  async #searchRoute(): Promise<void> {
    const { topic, createTopic, sendTimeoutMs } = this.#options
    const state = await this.routes.topic(topic, { timeoutMs: sendTimeoutMs })
    if (state && this.#order.length === 0) {
      throw new LedgerError('NO_PERMISSION', `topic ${topic} exists but none of its queues can be written`)
    }
    if (state) {
      this.#resolveError = null
      return
    }
    if (!createTopic) throw new LedgerError('TOPIC_NOT_EXIST', `topic ${topic} does not exist`)
    await createTopic()
    if (this.#order.length === 0) await this.routes.changed(resolvePauseMs)
  }

  #armExpiry(unit: Unit): void {
    // The messages of a unit have one deadline.
    const deadlineMs = unit[0]?.deadlineMs ?? Number.POSITIVE_INFINITY
    if (deadlineMs >= this.#expiryAtMs) return
    this.#disarmExpiry()
    this.#expiryAtMs = deadlineMs
    const waitMs = Math.max(expiryStepMs, deadlineMs - this.clock.monotonicMs())
    this.#cancelExpiry = this.clock.after(waitMs, () => this.#expire())
  }

  /** Nothing waits: no timer may keep the process alive. */
  #disarmExpiry(): void {
    this.#cancelExpiry()
    this.#expiryAtMs = Number.POSITIVE_INFINITY
  }

  #expire(): void {
    const nowMs = this.clock.monotonicMs()
    this.#expiryAtMs = Number.POSITIVE_INFINITY
    const late = (unit: Unit): boolean => unit.every((item) => item.deadlineMs <= nowMs)
    for (const unit of this.#waiting.remove(late)) settleUnit(unit, this.#waitedInVain())
    for (const unit of this.#removePinned(late)) settleUnit(unit, this.#waitedInVain())
    const undecided = this.#undecided
    this.#undecided = undecided.filter(({ unit }) => !late(unit))
    for (const { unit } of undecided) if (late(unit)) settleUnit(unit, this.#waitedInVain())
    for (const unit of this.#waiting.units()) this.#armExpiry(unit)
    for (const { unit } of this.#undecided) this.#armExpiry(unit)
    for (const lane of this.#lanes.values()) for (const unit of lane.pinned) this.#armExpiry(unit)
    this.#options.onIdle()
  }

  #removePinned(match: (unit: Unit) => boolean): readonly Unit[] {
    const removed: Unit[] = []
    for (const lane of this.#lanes.values()) {
      const matching = lane.pinned.filter(match)
      if (matching.length === 0) continue
      lane.pinned.splice(0, lane.pinned.length, ...lane.pinned.filter((unit) => !match(unit)))
      this.#pinnedCount -= matching.length
      removed.push(...matching)
    }
    return removed
  }

  /** Never sent, so definitely not stored. */
  #waitedInVain(): LedgerError {
    const { topic } = this.#options
    if (this.#order.length === 0) return this.#noRoute()
    const text = `the message waited for a queue of ${topic} until its time was up: ${this.#senders.size} batches before it are in flight without an answer`
    return new LedgerError('NO_QUORUM', text)
  }

  /** It may not be known whether the topic was created, but no message was sent there. */
  #noRoute(): LedgerError {
    const { topic } = this.#options
    const cause = this.#resolveError
    if (cause === null) return this.routes.noAnswer(topic)
    if (cause.stored === 'no') return cause
    return new LedgerError('NO_ROUTE', `topic ${topic} was not found in time: ${cause.message}`, cause.facts, { cause })
  }
}

/** What was sent together stays together: parts of it in different batches could be stored without each other. */
function unitsOf(items: Unit): SendItem[][] {
  const units: SendItem[][] = []
  let open: SendItem[] = []
  for (const item of items) {
    open.push(item)
    if (!item.endsUnit) continue
    units.push(open)
    open = []
  }
  if (open.length > 0) units.push(open)
  return units
}

function isSettled(unit: Unit): boolean {
  return unit.every((item) => item.done === null)
}

function settleUnit(unit: Unit, error: LedgerError): void {
  for (const item of unit) if (item.done) settle(item, error, null)
}
