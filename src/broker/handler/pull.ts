/**
 * The Pull stream: many pulls in flight, each answered when there is something or its wait is over; on followers
 * too. Registered by `register.ts`; `pull-read.ts` judges and reads.
 *
 * Whatever a client does, what is held for it is bounded: pulls in flight, reads at once, one answer beyond a full
 * buffer for each of these reads. It never answers a pull twice, and not at all once it was withdrawn.
 */
import { unreachable } from '../../common/assert.ts'
import type { Cancel } from '../../common/clock.ts'
import { errorTable, LedgerError } from '../../common/errors.ts'
import { decodePullRequest, encodePullReply, type PullReply, type PullRequest } from '../../rpc/envelopes.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import { toWireStatus } from '../../rpc/status.ts'
import type { ServerRoutes, StreamHandlers, StreamSink } from '../../rpc/transport.ts'
import type { LongPoll } from '../long-poll.ts'
import type { AppliedWaits } from './applied-waits.ts'
import type { HandlerContext } from './context.ts'
import { failureOf, throwBug } from './failure.ts'
import type { LeaderAbsence } from './leader-absence.ts'
import { notLeader } from './leadership.ts'
import { emptyReply, judgePull, type PullVerdict, readPull } from './pull-read.ts'
import type { ReadAdvice } from './read-advice.ts'
import { UnreadGuard } from './unread-guard.ts'

/** Longest wait for a first message. */
export const pullWaitMsMax = 30_000
/** Answers that one stream gathers at once. */
const readsAtOnceMax = 4
/** How long a reader waits for a replica that is behind: has not applied what it must see, or follows no leader. */
export const behindWaitMsMax = 1000
/** Work of one stream before others get their turn. */
const readsPerTurnMax = 32
const bytesPerTurnMax = 4 * 1024 * 1024
/** Longest wait for a quorum round that confirms a refusal. */
const confirmTimeoutMs = 2000
/** Pulls refused at once while the client reads nothing: more of them and it is cut off. */
const unreadRefusalsMax = 1024

interface PullPorts {
  readonly context: HandlerContext
  readonly longPoll: LongPoll
  readonly appliedWaits: AppliedWaits
  readonly absence: LeaderAbsence
  readonly advice: ReadAdvice
}

interface PendingPull {
  readonly request: PullRequest
  readonly deadlineMs: number
  /** Until then it waits for a replica that is behind. */
  readonly behindUntilMs: number
  /** Set while parked. */
  withdraw: Cancel | null
  /** A refusal that a quorum round has confirmed is final. */
  confirmed: boolean
}

export function registerPullHandler(routes: ServerRoutes, ports: PullPorts): void {
  routes.stream(brokerMethods.pull, (sink): StreamHandlers<Buffer> => {
    const stream = new PullStream(sink, ports)
    return {
      onMessage: (bytes) => stream.onMessage(bytes),
      onDrain: () => stream.onDrain(),
      onClosed: (error) => {
        // Nobody who has ended its side waits for messages any more.
        stream.stop()
        if (error === undefined) sink.end()
      },
    }
  })
}

class PullStream {
  readonly #sink: StreamSink<Buffer>
  readonly #ports: PullPorts
  readonly #context: HandlerContext
  readonly #guard: UnreadGuard<Buffer>
  readonly #abort = new AbortController()
  readonly #pending = new Map<number, PendingPull>()
  /** Those of the pending ones that are to be judged next, in the order they came or woke. */
  #queue: PendingPull[] = []
  #reading = 0
  #readsThisTurn = 0
  #bytesThisTurn = 0
  #turnPlanned = false
  #unreadRefusals = 0
  #stopped = false

  constructor(sink: StreamSink<Buffer>, ports: PullPorts) {
    this.#sink = sink
    this.#ports = ports
    this.#context = ports.context
    this.#guard = new UnreadGuard({
      sink,
      clock: ports.context.clock,
      unreadMsMax: ports.context.settings.unreadMsMax,
      onGivenUp: (error) => this.#cut(error),
    })
  }

  onMessage(bytes: Buffer): void {
    if (this.#stopped) return
    let request: PullRequest
    try {
      request = decodePullRequest(bytes)
    } catch (error) {
      this.#cut(failureOf(error))
      return
    }
    if (request.cancel) this.#withdraw(request.requestId)
    else this.#accept(request)
  }

  onDrain(): void {
    this.#guard.onDrain()
    this.#unreadRefusals = 0
    this.#pump()
  }

  stop(): void {
    this.#stopped = true
    this.#guard.stop()
    this.#abort.abort()
    for (const pull of this.#pending.values()) pull.withdraw?.()
    this.#pending.clear()
    this.#queue = []
  }

  #accept(request: PullRequest): void {
    const { requestId } = request
    const { pullsPerStreamMax } = this.#context.settings
    if (this.#pending.has(requestId)) {
      this.#refuseAtOnce(requestId, new LedgerError('INVALID_PARAMETER', `request id ${requestId} is in flight`))
      return
    }
    if (this.#pending.size >= pullsPerStreamMax) {
      this.#refuseAtOnce(requestId, this.#tooMany(`this stream has ${pullsPerStreamMax} pulls in flight`))
      return
    }
    const waitMs = Math.min(request.waitMs, pullWaitMsMax)
    const nowMs = this.#context.clock.monotonicMs()
    const [deadlineMs, behindUntilMs] = [nowMs + waitMs, nowMs + behindWaitMsMax]
    const pull: PendingPull = { request, deadlineMs, behindUntilMs, withdraw: null, confirmed: false }
    this.#pending.set(requestId, pull)
    this.#enqueue(pull)
  }

  /** Nothing is held for such a pull, so nothing but this count bounds its answer. */
  #refuseAtOnce(requestId: number, problem: LedgerError): void {
    if (this.#guard.full) this.#unreadRefusals += 1
    if (this.#unreadRefusals <= unreadRefusalsMax) this.#write(refusalReply(requestId, problem))
    else this.#cut(new LedgerError('OVERLOADED', 'the client sends without reading its replies'))
  }

  #withdraw(requestId: number): void {
    const pull = this.#pending.get(requestId)
    if (!pull) return
    this.#pending.delete(requestId)
    pull.withdraw?.()
    // While the client does not read, nobody else takes it out, and the next ones would pile up behind it.
    const at = this.#queue.indexOf(pull)
    if (at >= 0) this.#queue.splice(at, 1)
  }

  #enqueue(pull: PendingPull): void {
    this.#queue.push(pull)
    this.#pump()
  }

  /** Takes up pulls while the client reads and others get their turn. */
  #pump(): void {
    while (this.#queue.length > 0 && !this.#guard.full && this.#reading < readsAtOnceMax) {
      if (this.#readsThisTurn >= readsPerTurnMax || this.#bytesThisTurn >= bytesPerTurnMax) {
        this.#planTurn()
        return
      }
      const pull = this.#queue.shift()
      if (!pull || !this.#isPending(pull)) continue
      this.#readsThisTurn += 1
      this.#serve(pull)
    }
  }

  #planTurn(): void {
    if (this.#turnPlanned) return
    this.#turnPlanned = true
    this.#context.clock.defer(() => {
      this.#turnPlanned = false
      this.#readsThisTurn = 0
      this.#bytesThisTurn = 0
      this.#pump()
    })
  }

  /** Judges and parks without a gap; whatever waits for something runs on as one of the reads. */
  #serve(pull: PendingPull): void {
    const verdict = judgePull(this.#context.replica, pull.request)
    if (verdict.kind === 'refused') this.#refuse(pull, verdict.problem)
    else if (verdict.kind === 'behind') this.#waitForApply(pull, verdict)
    else if (verdict.kind === 'empty') this.#park(pull, verdict)
    else this.#run(pull, verdict)
  }

  #run(pull: PendingPull, verdict: Extract<PullVerdict, { readonly kind: 'read' | 'confirm' }>): void {
    this.#reading += 1
    this.#step(pull, verdict)
      .catch((error: unknown) => {
        this.#refuse(pull, failureOf(error))
      })
      .then(() => {
        this.#reading -= 1
        this.#pump()
      })
      .catch((error: unknown) => throwBug(this.#context.clock, error))
  }

  async #step(pull: PendingPull, verdict: Extract<PullVerdict, { readonly kind: 'read' | 'confirm' }>): Promise<void> {
    switch (verdict.kind) {
      case 'read': {
        const reply = await readPull(this.#context.replica, this.#ports.advice, pull.request, verdict.topic)
        if (!this.#isPending(pull)) return
        if (!reply) {
          this.#queue.push(pull)
          return
        }
        this.#pending.delete(pull.request.requestId)
        this.#write(reply)
        return
      }
      case 'confirm':
        return this.#confirm(pull, verdict)
      default:
        return unreachable(verdict)
    }
  }

  /** A refusal that only the true leader may speak. Without its quorum it is a wait, or the error of the round. */
  async #confirm(pull: PendingPull, verdict: Extract<PullVerdict, { readonly kind: 'confirm' }>): Promise<void> {
    if (pull.confirmed) {
      this.#refuse(pull, verdict.problem)
      return
    }
    try {
      await this.#context.replica.readCurrent({ timeoutMs: confirmTimeoutMs, signal: this.#abort.signal })
    } catch (error) {
      const failure = failureOf(error)
      if (!this.#isPending(pull)) return
      if (!verdict.topic) this.#refuse(pull, failure)
      // What came while it asked, or the end of the replica, wakes nobody who was not parked yet.
      else if (this.#isNews(pull, verdict.topic.topicId)) this.#enqueue(pull)
      else this.#park(pull, { topic: verdict.topic })
      return
    }
    pull.confirmed = true
    if (this.#isPending(pull)) this.#queue.push(pull)
  }

  #isNews({ request }: PendingPull, topicId: number): boolean {
    const { machine, running } = this.#context.replica
    if (!running) return true
    const range = machine.queueRange(topicId, request.queue)
    // Without a range the topic was deleted meanwhile, and what is parked for it is woken no more.
    return range === undefined || request.offset < range.max
  }

  #waitForApply(pull: PendingPull, verdict: Extract<PullVerdict, { readonly kind: 'behind' }>): void {
    const leftMs = pull.behindUntilMs - this.#context.clock.monotonicMs()
    if (leftMs <= 0) {
      this.#refuse(pull, verdict.problem)
      return
    }
    pull.withdraw = this.#ports.appliedWaits.park(verdict.index, leftMs, () => {
      pull.withdraw = null
      this.#enqueue(pull)
    })
    if (!pull.withdraw) this.#refuse(pull, this.#tooMany('as many pulls wait on this broker as may'))
  }

  #park(pull: PendingPull, at: { readonly topic: Parameters<typeof emptyReply>[2] }): void {
    const { clock, replica } = this.#context
    // What others have acknowledged meanwhile never comes here: "nothing there" would keep its reader for ever.
    const isCutOff = this.#ports.absence.isLong
    const untilMs = isCutOff ? Math.min(pull.deadlineMs, pull.behindUntilMs) : pull.deadlineMs
    const leftMs = untilMs - clock.monotonicMs()
    pull.confirmed = false
    if (leftMs <= 0 && isCutOff) {
      this.#refuse(pull, notLeader(replica))
      return
    }
    if (leftMs <= 0) {
      this.#pending.delete(pull.request.requestId)
      this.#write(emptyReply(replica, pull.request, at.topic))
      return
    }
    pull.withdraw = this.#ports.longPoll.park(at.topic.topicId, pull.request.queue, leftMs, () => {
      pull.withdraw = null
      this.#enqueue(pull)
    })
    if (!pull.withdraw) this.#refuse(pull, this.#tooMany('as many pulls wait on this broker as may'))
  }

  #refuse(pull: PendingPull, problem: LedgerError): void {
    if (!this.#isPending(pull)) return
    this.#pending.delete(pull.request.requestId)
    if (problem.code === 'DATA_LOSS')
      this.#context.logger.error('stored messages cannot be read', {
        topic: pull.request.topic,
        queue: pull.request.queue,
        offset: pull.request.offset,
        reason: problem.message,
      })
    this.#write(refusalReply(pull.request.requestId, problem))
  }

  #isPending(pull: PendingPull): boolean {
    return this.#pending.get(pull.request.requestId) === pull
  }

  #tooMany(message: string): LedgerError {
    return new LedgerError('FLOW_CONTROL', message, { retryAfterMs: this.#context.settings.retryAfterMs })
  }

  #write(reply: PullReply): void {
    if (this.#stopped) return
    const bytes = encodePullReply(reply)
    this.#bytesThisTurn += bytes.length
    this.#guard.write(bytes)
  }

  #cut(error: LedgerError): void {
    this.stop()
    this.#sink.cancel(error)
  }
}

function refusalReply(requestId: number, problem: LedgerError): PullReply {
  const { minOffset = 0, maxOffset = 0 } = problem.facts
  return {
    requestId,
    code: errorTable[problem.code].number,
    status: toWireStatus(problem),
    nextOffset: 0,
    minOffset,
    maxOffset,
    appliedIndex: 0,
    commitIndex: 0,
    appliedTime: 0,
    topicId: 0,
    suggestedNode: '',
    batches: [],
  }
}
