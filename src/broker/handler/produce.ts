/**
 * The Produce stream: batches in, one reply each, many in flight (RocketMQ: SendMessageProcessor). Registered by
 * `register.ts`.
 *
 * A judgement of one request is a response code; only an envelope that cannot be parsed ends the stream. Whatever a
 * client does, what is held for it is bounded. A stream that closes ends waits, never proposals that are in the log.
 */
import { frameTypes } from '../../../store/index.ts'
import { invariant } from '../../common/assert.ts'
import { errorTable, LedgerError } from '../../common/errors.ts'
import {
  decodeProduceRequest,
  encodeProduceReplies,
  type ProduceReply,
  type ProduceRequest,
} from '../../rpc/envelopes.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import { toWireStatus } from '../../rpc/status.ts'
import type { ServerRoutes, StreamHandlers, StreamSink } from '../../rpc/transport.ts'
import type { Applied } from '../contract.ts'
import type { HandlerContext } from './context.ts'
import { failureOf, throwBug } from './failure.ts'
import { checkProducedBatch, findStateProblem } from './produce-check.ts'
import { UnreadGuard } from './unread-guard.ts'

/** RocketMQ: sendMsgTimeout, for a client that names no time. */
const timeoutMsDefault = 3000
const timeoutMsMax = 60_000

export function registerProduceHandler(routes: ServerRoutes, context: HandlerContext): void {
  routes.stream(brokerMethods.produce, (sink): StreamHandlers<Buffer> => {
    const stream = new ProduceStream(sink, context)
    return {
      onMessage: (bytes) => stream.onMessage(bytes),
      onDrain: () => stream.onDrain(),
      onClosed: (error) => {
        if (error === undefined) stream.onEnd()
        else stream.stop()
      },
    }
  })
}

class ProduceStream {
  readonly #sink: StreamSink<Buffer>
  readonly #context: HandlerContext
  readonly #guard: UnreadGuard<Buffer>
  readonly #waits = new Set<AbortController>()
  #bytesInFlight = 0
  /** Replies of this turn, or all since the client stopped reading. */
  #ready: ProduceReply[] = []
  #writePlanned = false
  /** The client sends no more: the stream ends when everything is answered. */
  #ending = false
  #stopped = false

  constructor(sink: StreamSink<Buffer>, context: HandlerContext) {
    this.#sink = sink
    this.#context = context
    this.#guard = new UnreadGuard({
      sink,
      clock: context.clock,
      unreadMsMax: context.settings.unreadMsMax,
      onGivenUp: (error) => this.#cut(error),
    })
  }

  onMessage(bytes: Buffer): void {
    if (this.#stopped) return
    let request: ProduceRequest
    try {
      request = decodeProduceRequest(bytes)
    } catch (error) {
      this.#cut(failureOf(error))
      return
    }
    const full = this.#findOverload(request)
    if (full) this.#answer(refusalReply(request.requestId, full))
    else this.#serve(request).catch((error: unknown) => throwBug(this.#context.clock, error))
  }

  onDrain(): void {
    this.#guard.onDrain()
    this.#writeReady()
  }

  onEnd(): void {
    this.#ending = true
    this.#endIfAnswered()
  }

  stop(): void {
    this.#stopped = true
    this.#guard.stop()
    for (const wait of this.#waits) wait.abort()
    this.#waits.clear()
    this.#ready = []
  }

  #findOverload(request: ProduceRequest): LedgerError | null {
    const { produceRequestsMax, produceBytesMax, retryAfterMs } = this.#context.settings
    const bytes = this.#bytesInFlight + request.batch.length
    // A batch larger than the limit passes alone, so that no setting makes a legal message unsendable.
    const full = this.#waits.size >= produceRequestsMax || (this.#waits.size > 0 && bytes > produceBytesMax)
    if (!full) return null
    return new LedgerError(
      'FLOW_CONTROL',
      `this stream has ${this.#waits.size} requests with ${this.#bytesInFlight} bytes in flight, its limit`,
      { retryAfterMs },
    )
  }

  async #serve(request: ProduceRequest): Promise<void> {
    const wait = new AbortController()
    this.#waits.add(wait)
    this.#bytesInFlight += request.batch.length
    let reply: ProduceReply
    try {
      reply = storedReply(request.requestId, await this.#store(request, wait.signal))
    } catch (error) {
      reply = refusalReply(request.requestId, failureOf(error))
    }
    this.#waits.delete(wait)
    this.#bytesInFlight -= request.batch.length
    this.#answer(reply)
  }

  async #store(request: ProduceRequest, signal: AbortSignal): Promise<Applied> {
    const { replica } = this.#context
    const timeoutMs = Math.min(request.timeoutMs || timeoutMsDefault, timeoutMsMax)
    const header = checkProducedBatch(request.batch)
    // A follower may not know topic and limits yet: there the leader is the answer. One that only believes it leads may
    // not know them either, so a refusal needs a quorum behind it.
    if (replica.leading && findStateProblem(replica, request.batch, header)) {
      await replica.readCurrent({ timeoutMs, signal })
      const problem = findStateProblem(replica, request.batch, header)
      if (problem) throw problem
    }
    return replica.propose(frameTypes.batch, [request.batch], { timeoutMs, signal })
  }

  #answer(reply: ProduceReply): void {
    if (this.#stopped) return
    this.#ready.push(reply)
    if (this.#guard.full) {
      // Answers to refused requests cost the client nothing, so they need a limit of their own.
      if (this.#ready.length > 2 * this.#context.settings.produceRequestsMax)
        this.#cut(new LedgerError('OVERLOADED', 'the client sends without reading its replies'))
      return
    }
    if (this.#writePlanned) return
    this.#writePlanned = true
    this.#context.clock.defer(() => {
      this.#writePlanned = false
      this.#writeReady()
    })
  }

  #writeReady(): void {
    if (this.#stopped || this.#guard.full || this.#ready.length === 0) return
    const replies = this.#ready
    this.#ready = []
    this.#guard.write(encodeProduceReplies(replies))
    this.#endIfAnswered()
  }

  #endIfAnswered(): void {
    if (!this.#ending || this.#stopped || this.#waits.size > 0 || this.#ready.length > 0) return
    this.stop()
    this.#sink.end()
  }

  #cut(error: LedgerError): void {
    this.stop()
    this.#sink.cancel(error)
  }
}

function storedReply(requestId: number, applied: Applied): ProduceReply {
  const { result, term } = applied
  if (result.kind === 'refused') return refusalReply(requestId, new LedgerError(result.code, result.message))
  invariant(result.kind === 'stored', `B3: applying a batch gave ${result.kind}`)
  const { baseOffset, index, storeTime, duplicate } = result
  return { requestId, code: 0, baseOffset, index, term, storeTime, duplicate, status: null }
}

function refusalReply(requestId: number, error: LedgerError): ProduceReply {
  return {
    requestId,
    code: errorTable[error.code].number,
    baseOffset: 0,
    index: 0,
    term: error.facts.term ?? 0,
    storeTime: 0,
    duplicate: false,
    status: toWireStatus(error),
  }
}
