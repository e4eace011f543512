/**
 * Messages of one topic on one broker group, asked for by the simple consumer. It stays with one attempt across leader
 * changes and withdrawals, so that what was granted and not answered comes with the next answer.
 */
import { type LedgerError, toLedgerError } from '../../common/errors.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import type { ReceiveReply, ReceiveRequest } from '../../rpc/receive-messages.ts'
import { callLeader } from '../leader-call.ts'
import { aborted, allowManyListeners } from '../wait.ts'
import type { ReaderPorts } from './queue-reader.ts'

/** Longest wait that a broker takes. */
export const brokerWaitMsMax = 20_000
/** Beyond the wait, for the way and for what a broker does when a message came. */
const answerMs = 3_000
/** Without an answer for so long nothing moves, and a status tells. */
const stallMs = 3_000
/** Withdrawn attempts that are remembered: one for each receive that ran at the same time. */
const openAttemptsMax = 32

export type AskFields = Omit<ReceiveRequest, 'topic' | 'attemptId' | 'waitMs'>

export class ReceiveSource {
  readonly topic: string
  readonly brokerGroup: string
  readonly #ports: ReaderPorts
  /** Attempts that were withdrawn: a broker may have granted them something. */
  readonly #open: string[] = []
  readonly #asking = new Set<AbortController>()
  #lastAnswerMs: number
  #stalled = false

  constructor(ports: ReaderPorts, topic: string, brokerGroup: string) {
    this.#ports = ports
    this.topic = topic
    this.brokerGroup = brokerGroup
    this.#lastAnswerMs = ports.clock.monotonicMs()
  }

  /** Another leader answers: whoever waits at the old one would wait in vain. */
  leaderChanged(): void {
    for (const asking of this.#asking) asking.abort()
  }

  /** What the broker group gives within the wait. Throws ABORTED when withdrawn, and what the leader refuses. */
  async ask(
    fields: AskFields,
    call: { readonly deadlineMs: number; readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<ReceiveReply> {
    const attemptId = this.#open.shift() ?? this.#ports.random.bytes(12).toString('hex')
    const { clock } = this.#ports
    const endMs = Math.max(call.deadlineMs, clock.monotonicMs()) + call.timeoutMs
    try {
      while (true) {
        const waitMs = Math.max(0, Math.min(call.deadlineMs - clock.monotonicMs(), brokerWaitMsMax))
        const reply = await this.#askOnce(
          { ...fields, topic: this.topic, attemptId, waitMs: Math.floor(waitMs) },
          { timeoutMs: endMs - clock.monotonicMs(), signal: call.signal },
        )
        if (!reply) continue
        this.#answered()
        // A broker waits for a part of a longer wait only.
        if (reply.messages.length > 0 || call.deadlineMs <= clock.monotonicMs()) return reply
      }
    } catch (error) {
      this.#open.push(attemptId)
      if (this.#open.length > openAttemptsMax) this.#open.shift()
      if (call.signal.aborted) throw aborted('receive', call.signal)
      throw this.#failed(toLedgerError(error))
    }
  }

  /** Null: the leader changed meanwhile. */
  async #askOnce(
    request: ReceiveRequest,
    call: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<ReceiveReply | null> {
    const asking = new AbortController()
    const onAbort = (): void => asking.abort(call.signal.reason)
    allowManyListeners(call.signal).addEventListener('abort', onAbort, { once: true })
    if (call.signal.aborted) onAbort()
    this.#asking.add(asking)
    try {
      return await callLeader(
        this.#ports,
        this.brokerGroup,
        { method: brokerMethods.receive, request },
        { timeoutMs: Math.max(1, call.timeoutMs), attemptMs: request.waitMs + answerMs, signal: asking.signal },
      )
    } catch (error) {
      if (asking.signal.aborted && !call.signal.aborted) return null
      throw error
    } finally {
      this.#asking.delete(asking)
      call.signal.removeEventListener('abort', onAbort)
    }
  }

  #answered(): void {
    this.#lastAnswerMs = this.#ports.clock.monotonicMs()
    if (!this.#stalled) return
    this.#stalled = false
    this.#ports.status.emit({ kind: 'resumed', what: 'consumer', where: this.#where() })
  }

  #failed(reason: LedgerError): LedgerError {
    const sinceMs = this.#ports.clock.monotonicMs() - this.#lastAnswerMs
    if (!this.#stalled && sinceMs >= stallMs) {
      this.#stalled = true
      this.#ports.status.emit({ kind: 'stalled', what: 'consumer', where: this.#where(), sinceMs, reason })
    }
    return reason
  }

  #where(): string {
    return `${this.topic}/${this.brokerGroup}`
  }
}
