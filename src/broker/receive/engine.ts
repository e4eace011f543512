/**
 * Consumption message by message on the leader (RocketMQ: PopMessageProcessor): serves receivers until they have
 * something or their wait is over. Called by `handler/receive.ts`; what is given out is decided in `look.ts`.
 *
 * It keeps nothing that a new leader needs: who has which message is in the log, this memory says only whose turn it is
 * and who waits. It never answers what apply did not grant.
 */
import { frameTypes } from '../../../store/index.ts'
import type { Clock } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import type { Logger } from '../../common/logger.ts'
import { decodeCommand } from '../apply/command.ts'
import type { ApplyResult, CommittedEntry, ReplicaApi, TopicInfo } from '../contract.ts'
import { failureOf } from '../handler/failure.ts'
import { notLeader } from '../handler/leadership.ts'
import { type Granted, glance, hasAttempt, lookInto, type ReceiveOrder } from './look.ts'
import { QueueTurns } from './queue-turns.ts'
import { RunningAttempts } from './running-attempts.ts'
import { beginTopic, type Start } from './start.ts'
import { ReceiveWaits, type Waiter } from './waits.ts'

export interface ReceiveEnginePorts {
  readonly replica: ReplicaApi
  readonly clock: Clock
  readonly logger: Logger
  /** Receivers served at a time. */
  readonly receivesMax: number
  readonly retryAfterMs: number
}

export interface ReceiveCall extends ReceiveOrder {
  readonly topic: TopicInfo
  /** Null: any of the topic. */
  readonly queue: number | null
  readonly start: Start | null
  readonly waitMs: number
  /** Until its caller gives up, Infinity: never. */
  readonly remainingMs: number
  readonly signal: AbortSignal
}

/** Looks into one queue in a row, each after an entry: others get their turn, and nobody holds the loop. */
const looksMax = 16
/** Looks that apply refused in a row, before the state is left alone for a moment. */
const supersededMax = 4
const supersededPauseMs = 20
/** How long a receiver that will not wait for messages waits for its turn. */
const turnWaitMsMax = 1000
/** Groups and topics whose next queue is remembered. */
const nextQueuesMax = 10_000

export class ReceiveEngine {
  readonly #ports: ReceiveEnginePorts
  readonly #waits: ReceiveWaits
  readonly #turns = new QueueTurns()
  /** Where the next receiver of a group begins with a topic. */
  readonly #nextQueue = new Map<string, number>()
  readonly #attempts = new RunningAttempts()
  readonly #removals: readonly (() => void)[]
  #closed = false

  constructor(ports: ReceiveEnginePorts) {
    this.#ports = ports
    this.#waits = new ReceiveWaits(ports.clock, ports.receivesMax)
    this.#removals = [
      ports.replica.onApplied((entry, result) => this.#onApplied(entry, result)),
      ports.replica.onRoleChanged(() => this.#waits.wakeAll()),
    ]
  }

  close(): void {
    this.#closed = true
    for (const remove of this.#removals) remove()
    this.#waits.wakeAll()
  }

  /** Another replica answers from now on. */
  renewed(): void {
    this.#waits.wakeAll()
  }

  /** What the group has changed without an entry that says so. */
  groupChanged(group: string): void {
    this.#waits.wakeGroup(group)
  }

  /** Null: the wait is over. Throws NOT_LEADER, ABORTED, FLOW_CONTROL and what the log and the state say. */
  async receive(call: ReceiveCall): Promise<Granted | null> {
    const waiter = this.#waits.enter({ group: call.group, topicId: call.topic.topicId })
    if (!waiter)
      throw new LedgerError('FLOW_CONTROL', `${this.#ports.receivesMax} receivers wait on this broker already`, {
        retryAfterMs: this.#ports.retryAfterMs,
      })
    try {
      if (call.attemptId === '') return await this.#serve(call, waiter)
      const name = `${call.group}/${call.topic.topicId}/${call.attemptId}`
      return await this.#attempts.run(name, call.signal, (signal) => this.#serve({ ...call, signal }, waiter))
    } catch (error) {
      throw failureOf(error)
    } finally {
      this.#waits.leave(waiter)
    }
  }

  async #serve(call: ReceiveCall, waiter: Waiter): Promise<Granted | null> {
    const startedMs = this.#ports.clock.monotonicMs()
    while (true) {
      this.#waits.looks(waiter)
      const passedMs = this.#ports.clock.monotonicMs() - startedMs
      const found = await this.#lookAll(call, call.remainingMs - passedMs)
      if (found.kind === 'granted') return found.granted
      // As long as there may be more it does not wait, and does not give up at once either.
      const turnMs = found.busy ? Math.min(turnWaitMsMax, call.remainingMs / 2) : 0
      const leftMs = Math.max(call.waitMs, turnMs) - (this.#ports.clock.monotonicMs() - startedMs)
      if (leftMs <= 0) return null
      await this.#waits.wait(waiter, Math.min(leftMs, Math.max(1, found.lookAgainInMs)), call.signal)
    }
  }

  /** Looks into every queue that may be meant, the next one first. */
  async #lookAll(
    call: ReceiveCall,
    timeoutMs: number,
  ): Promise<
    | { readonly kind: 'granted'; readonly granted: Granted }
    | { readonly kind: 'nothing'; readonly busy: boolean; readonly lookAgainInMs: number }
  > {
    const topic = this.#check(call)
    let nextVisibleAt = Number.POSITIVE_INFINITY
    let busy = false
    let pauseMs = Number.POSITIVE_INFINITY
    let problem: LedgerError | null = null
    if (!this.#ports.replica.machine.groupSettings.get(call.group).paused) {
      await beginTopic(this.#ports.replica, call.group, topic, { start: call.start, timeoutMs })
      for (const queue of this.#queuesInTurn(call, topic)) {
        this.#check(call)
        const seen = glance(this.#ports.replica, call, { topic, queue })
        nextVisibleAt = Math.min(nextVisibleAt, seen.nextVisibleAt)
        if (!seen.worthWhile) continue
        try {
          const granted = await this.#lookIn(call, { topic, queue }, timeoutMs)
          if (granted === 'busy' || granted === 'more') busy = true
          else if (granted) return { kind: 'granted', granted }
          if (granted === 'more') pauseMs = supersededPauseMs
        } catch (error) {
          // One queue that cannot be read must not hold up the others.
          const failure = failureOf(error)
          if (failure.code === 'NOT_LEADER') throw failure
          if (failure.code === 'DATA_LOSS') this.#logLoss(call, queue, failure)
          problem ??= failure
        }
      }
    }
    if (problem) throw problem
    const lookAgainInMs = Math.min(pauseMs, nextVisibleAt - this.#ports.replica.logTime)
    return { kind: 'nothing', busy, lookAgainInMs }
  }

  async #lookIn(
    call: ReceiveCall,
    at: { readonly topic: TopicInfo; readonly queue: number },
    timeoutMs: number,
  ): Promise<Granted | 'busy' | 'more' | null> {
    const { group } = call
    const { topicId } = at.topic
    const giveBack = this.#turns.take({ group, topicId, queue: at.queue }, () => this.#waits.wakeGroup(group))
    if (!giveBack) return 'busy'
    try {
      let superseded = 0
      for (let looks = 0; looks < looksMax && superseded < supersededMax; looks++) {
        if (call.signal.aborted) return null
        const look = await lookInto(this.#ports, call, at, timeoutMs)
        if (look.kind === 'granted') {
          this.#served(call, at.queue)
          return look.granted
        }
        if (look.kind === 'nothing') return null
        superseded = look.kind === 'superseded' ? superseded + 1 : 0
      }
      return 'more'
    } finally {
      giveBack()
    }
  }

  /** The topic as it is now. Throws what keeps this call from being served any longer. */
  #check({ group, topic, queue, signal }: ReceiveCall): TopicInfo {
    const { replica } = this.#ports
    if (signal.aborted) throw new LedgerError('ABORTED', 'the receiver has gone')
    if (this.#closed) throw new LedgerError('SERVICE_NOT_AVAILABLE', `node ${replica.node} is stopping`)
    if (!replica.running || !replica.leading) throw notLeader(replica)
    const current = replica.machine.topicById(topic.topicId)
    if (!current) throw new LedgerError('TOPIC_NOT_EXIST', `topic ${topic.config.topic} was deleted`)
    if ((current.config.permission & 4) === 0)
      throw new LedgerError('NO_PERMISSION', `topic ${topic.config.topic} may not be read`)
    if (queue !== null && !replica.machine.queueRange(topic.topicId, queue))
      throw new LedgerError('INVALID_PARAMETER', `topic ${topic.config.topic} has no queue ${queue}`)
    if (replica.machine.assignment(group).members.length > 0)
      throw new LedgerError(
        'INVALID_PARAMETER',
        `group ${group} has members to whom its queues are assigned; stop them, or receive with another group`,
      )
    return current
  }

  #logLoss({ group, topic }: ReceiveCall, queue: number, { message: reason }: LedgerError): void {
    const facts = { consumerGroup: group, topic: topic.config.topic, queue, reason }
    this.#ports.logger.error('stored messages cannot be read', facts)
  }

  #queuesInTurn(call: ReceiveCall, topic: TopicInfo): readonly number[] {
    const { topicId, config } = topic
    if (call.queue !== null) return [call.queue]
    const from = this.#nextQueue.get(`${call.group}/${topicId}`) ?? 0
    const inTurn = Array.from({ length: config.readQueues }, (_, step) => (from + step) % config.readQueues)
    if (call.attemptId === '') return inTurn
    // Where this attempt has messages it gets them, and none of another queue.
    const own = inTurn.find((queue) => hasAttempt(this.#ports.replica, call, { topic, queue }))
    return own === undefined ? inTurn : [own]
  }

  #served({ group, topic }: ReceiveCall, queue: number): void {
    const name = `${group}/${topic.topicId}`
    this.#nextQueue.delete(name)
    this.#nextQueue.set(name, queue + 1)
    // The one that was served longest ago begins at its first queue again.
    for (const oldest of this.#nextQueue.keys()) {
      if (this.#nextQueue.size <= nextQueuesMax) break
      this.#nextQueue.delete(oldest)
    }
  }

  #onApplied(entry: CommittedEntry, result: ApplyResult): void {
    if (this.#waits.count === 0) return
    if (result.kind === 'stored' && !result.duplicate) this.#waits.wakeTopic(result.topicId)
    else if (result.kind === 'topic') this.#waits.wakeTopic(result.topic.topicId)
    else if (result.kind === 'topic_deleted') this.#waits.wakeTopic(result.topicId)
    else if (result.kind === 'none' || result.kind === 'generation' || result.kind === 'offsets') this.#onCommand(entry)
  }

  /** Settings, members and seeks of a group change what it is given. */
  #onCommand({ type, body }: CommittedEntry): void {
    if (type !== frameTypes.command) return
    const command = decodeCommand(body)
    const isSeek = command.kind === 'commit_offsets' && command.seek
    if (isSeek || command.kind === 'seek_group' || command.kind === 'set_group' || command.kind === 'assign_group')
      this.#waits.wakeGroup(command.group)
  }
}
