/**
 * The push consumer: joins a consumer group, gets queues assigned, and calls a listener for every message (RocketMQ:
 * DefaultMQPushConsumer with a concurrent listener). Made by `client.pushConsumer()`.
 *
 * At least once: a message whose listener had not returned, or whose commit was not answered, may come again. One whose
 * listener fails is given back and comes again later; one that is given up is told as a status.
 */
import { sleep } from '../../common/clock.ts'
import { LedgerError } from '../../common/errors.ts'
import { checkGroupName, checkReadableTopicName } from '../../message/names.ts'
import { retryTopicOf } from '../../message/system-topics.ts'
import { checkFunction, checkList, checkOptions, checkReadFrom, checkStart } from '../arguments.ts'
import type { MessageQueue, PushConsumerOptions } from '../types.ts'
import { allowManyListeners } from '../wait.ts'
import type { BrokerGroupState } from './broker-group-state.ts'
import { Dispatch } from './dispatch.ts'
import { FailedMessages } from './failed-messages.ts'
import { GiveBacks } from './give-backs.ts'
import { type Assignment, GroupMember } from './group-member.ts'
import { HeldQueues } from './held-queues.ts'
import { OffsetCommits } from './offset-commits.ts'
import { type ConsumerPorts, type Listener, type PushSettings, readSettings } from './push-settings.ts'
import { QueueLocks } from './queue-locks.ts'
import { TakeOver } from './take-over.ts'

export interface PushConsumerPorts extends ConsumerPorts {
  readonly onClosed: (consumer: PushConsumer) => void
}

export class PushConsumer {
  readonly group: string
  /** Random, so that two processes on one host are two members. */
  readonly member: string
  readonly #ports: PushConsumerPorts
  readonly #topics: readonly string[]
  readonly #settings: PushSettings
  readonly #brokerGroups = new Map<string, BrokerGroupState>()
  readonly #queues: HeldQueues
  readonly #dispatch: Dispatch
  readonly #commits: OffsetCommits
  readonly #takeOver: TakeOver
  /** Null: messages of a queue are not consumed in order. */
  readonly #locks: QueueLocks | null
  /** Ends everything that waits or is retried. */
  readonly #stop = new AbortController()
  #isRunning = false
  #stopListening = (): void => {}
  #closing: Promise<void> | null = null
  #fatal: LedgerError | null = null

  constructor(ports: PushConsumerPorts, options: PushConsumerOptions) {
    checkGroupName(options.group)
    checkList('CONFIG_INVALID', 'subscribe', options.subscribe)
    checkReadFrom(options.readFrom)
    checkStart('CONFIG_INVALID', options.from)
    for (const topic of options.subscribe) checkReadableTopicName(topic)
    if (options.subscribe.length === 0) throw new LedgerError('CONFIG_INVALID', '`subscribe` names no topic')
    allowManyListeners(this.#stop.signal)
    this.group = options.group
    this.member = ports.random.bytes(12).toString('hex')
    this.#ports = ports
    this.#topics = [...new Set(options.subscribe)].sort()
    this.#settings = readSettings(options)
    const { signal } = this.#stop
    const settings = this.#settings
    const identity = { group: this.group, member: this.member }
    this.#queues = new HeldQueues(ports, {
      group: this.group,
      settings,
      onHeld: () => this.#locks?.ask(),
      onReady: () => this.#dispatch.plan(),
      beat: (brokerGroup) => this.#brokerGroups.get(brokerGroup)?.member.beat(),
    })
    const queues = this.#queues
    const states = this.#brokerGroups
    const plan = (): void => this.#dispatch.plan()
    const giveBacks = new GiveBacks(ports, identity, states)
    const onGivenBack = (brokerGroup: string): void => this.#expectRetries(brokerGroup)
    const failed = new FailedMessages(ports, { settings, giveBacks, states, onGivenBack, onDue: plan })
    const locking = { identity, queues, states, leaseMs: settings.lockLeaseMs, onLocked: plan }
    const locks = settings.ordered ? new QueueLocks(ports, locking, signal) : null
    this.#locks = locks
    this.#dispatch = new Dispatch(ports, settings, { queues, failed }, signal)
    this.#commits = new OffsetCommits(ports, identity, { queues, locks }, signal)
    const parts = { queues, dispatch: this.#dispatch, commits: this.#commits, locks, settings }
    this.#takeOver = new TakeOver(ports, identity, { ...parts, isClosing: () => this.#closing !== null }, signal)
  }

  /**
   * Consumes until `close` is called, the signal aborts, or the group refuses this member for good (the error is
   * thrown). Call it once.
   */
  async run(listener: Listener, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    checkFunction('INVALID_PARAMETER', 'listener', listener)
    checkOptions(options)
    if (this.#isRunning || this.#stop.signal.aborted) {
      throw new LedgerError('CLOSED', 'run was called before, or the consumer is closed')
    }
    this.#isRunning = true
    this.#dispatch.start(listener)
    const { routes } = this.#ports
    const onAbort = (): void => void this.close()
    options.signal?.addEventListener('abort', onAbort, { once: true })
    if (options.signal?.aborted) onAbort()
    this.#stopListening = routes.listen({
      onRouteChanged: () => this.#joinBrokerGroups(),
      onLeaderChanged: (change) => {
        for (const held of this.#queues.all) held.reader.onLeaderChanged(change)
        this.#brokerGroups.get(change.group)?.member.beat()
      },
    })
    // Closed before it began: `close` found nothing to stop listening to.
    if (this.#closing) this.#stopListening()
    for (const topic of this.#topics) routes.want(topic)
    this.#joinBrokerGroups()
    try {
      await this.#commitUntilStopped()
      await this.#closing
    } finally {
      options.signal?.removeEventListener('abort', onAbort)
    }
    if (this.#fatal) throw this.#fatal
  }

  /** Queues of this member now. */
  assignment(): readonly MessageQueue[] {
    return this.#queues.all.map((held) => held.queue)
  }

  /** Hands out nothing more, waits for running listeners (bounded), commits, leaves the group. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    this.#stopListening()
    for (const held of this.#queues.all) held.revoked = true
    await this.#dispatch.drain(this.#queues.all)
    await this.#commitAll()
    this.#stop.abort()
    this.#locks?.close()
    const leaveMs = Math.min(2_000, this.#ports.requestTimeoutMs)
    const states = [...this.#brokerGroups.values()]
    await Promise.all(states.map((state) => this.#locks?.unlock(state, this.#queues.of(state.name), leaveMs)))
    this.#queues.clear()
    await Promise.all([...this.#brokerGroups.values()].map(({ member }) => member.leave(leaveMs)))
    this.#ports.onClosed(this)
  }

  /** One membership per broker group that has a subscribed topic. */
  #joinBrokerGroups(): void {
    const { table } = this.#ports.routes
    for (const state of this.#brokerGroups.values()) this.#followIncarnation(state)
    for (const held of this.#queues.all) held.reader.resume()
    for (const topic of this.#topics) {
      for (const { group } of table.queues(topic, 'read')) {
        if (this.#brokerGroups.has(group) || this.#closing) continue
        const member = new GroupMember({
          ports: this.#ports,
          brokerGroup: group,
          group: this.group,
          member: this.member,
          topics: this.#topics,
          sessionTimeoutMs: this.#settings.sessionTimeoutMs,
          onAssignment: (assignment) => this.#onAssignment(group, assignment),
          onTrouble: (error) => this.#onTrouble(group, error),
        })
        const incarnation = table.incarnation(group)
        const joined = {
          name: group,
          member,
          incarnation,
          generation: 0,
          wanted: null,
          applying: false,
          committing: null,
        }
        this.#brokerGroups.set(group, joined)
        member.beat()
      }
    }
  }

  /**
   * A broker group that was recovered by force counts on from less. Where its queues have grown again meanwhile, beyond
   * what was read here, no offset shows it: all of them are begun anew where the group is.
   */
  #followIncarnation(state: BrokerGroupState): void {
    const incarnation = this.#ports.routes.table.incarnation(state.name)
    if (incarnation === state.incarnation) return
    const isRecovered = state.incarnation !== ''
    state.incarnation = incarnation
    if (!isRecovered) return
    for (const held of this.#queues.of(state.name)) this.#queues.letGo(held)
    state.member.beat()
  }

  #onTrouble(brokerGroup: string, error: LedgerError | null): void {
    const where = `${this.group}/${brokerGroup}`
    if (error === null) {
      this.#ports.status.emit({ kind: 'resumed', what: 'consumer', where })
      return
    }
    this.#ports.status.emit({ kind: 'stalled', what: 'consumer', where, sinceMs: 0, reason: error })
    // Another subscription than the group's, or a right that is missing: no repetition helps.
    if (error.retryable || this.#closing) return
    this.#fatal = error
    void this.close()
  }

  #onAssignment(brokerGroup: string, assignment: Assignment): void {
    const state = this.#brokerGroups.get(brokerGroup)
    if (state && !this.#closing) this.#takeOver.onAssignment(state, assignment)
  }

  async #commitUntilStopped(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        await sleep(this.#ports.clock, this.#settings.commitIntervalMs, this.#stop.signal)
      } catch {
        return
      }
      await this.#commitAll()
    }
  }

  /** The first message that is given back makes the retry topic: its owner should know before the message comes. */
  #expectRetries(brokerGroup: string): void {
    const retries = { topic: retryTopicOf(this.group), group: brokerGroup, queue: 0 }
    const isKnown = this.#ports.routes.table.topicId(retries) !== 0
    if (!isKnown && !this.#queues.has(retries)) this.#brokerGroups.get(brokerGroup)?.member.beat()
    this.#ports.routes.want(retries.topic)
  }

  async #commitAll(): Promise<void> {
    await Promise.all([...this.#brokerGroups.values()].map((state) => this.#commits.commit(state)))
  }
}
