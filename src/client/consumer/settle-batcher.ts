/**
 * Gathers what receivers say of their messages: what comes while a call is under way goes into the next one, one call
 * at a time per broker group. Used by the simple consumer.
 */
import { LedgerError, toLedgerError } from '../../common/errors.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import type { SettleResult } from '../../rpc/receive-messages.ts'
import { fromWireStatus } from '../../rpc/status.ts'
import { callLeader, type LeaderCallPorts } from '../leader-call.ts'
import type { SettleAction } from './received-message.ts'

/** As a broker takes them in one call. */
const messagesPerCallMax = 1024
/** Of one broker group, waiting for their call. */
const waitingMax = 65_536

interface Pending {
  readonly handle: string
  readonly action: SettleAction
  readonly resolve: (handle: string) => void
  readonly reject: (error: LedgerError) => void
}

export class SettleBatcher {
  readonly #ports: LeaderCallPorts
  readonly #group: string
  readonly #timeoutMs: number
  readonly #waiting = new Map<string, Pending[]>()
  readonly #running = new Map<string, Promise<void>>()

  constructor(ports: LeaderCallPorts, options: { readonly group: string; readonly timeoutMs: number }) {
    this.#ports = ports
    this.#group = options.group
    this.#timeoutMs = options.timeoutMs
  }

  settle(brokerGroup: string, handle: string, action: SettleAction): Promise<string> {
    const waiting = this.#waiting.get(brokerGroup) ?? []
    if (waiting.length >= waitingMax)
      return Promise.reject(new LedgerError('BUFFER_FULL', `${waitingMax} messages wait to be settled`))
    return new Promise((resolve, reject) => {
      waiting.push({ handle, action, resolve, reject })
      this.#waiting.set(brokerGroup, waiting)
      if (this.#running.has(brokerGroup)) return
      this.#running.set(brokerGroup, this.#run(brokerGroup))
    })
  }

  /** Resolves when everything that was said so far is answered. */
  async idle(): Promise<void> {
    await Promise.all(this.#running.values())
  }

  async #run(brokerGroup: string): Promise<void> {
    // What comes at once goes into one call.
    await new Promise<void>((resolve) => this.#ports.clock.defer(resolve))
    for (let next = this.#next(brokerGroup); next.length > 0; next = this.#next(brokerGroup)) {
      try {
        await this.#call(brokerGroup, next)
      } catch (error) {
        const failure = toLedgerError(error)
        for (const { reject } of next) reject(failure)
      }
    }
    this.#running.delete(brokerGroup)
  }

  #next(brokerGroup: string): readonly Pending[] {
    return this.#waiting.get(brokerGroup)?.splice(0, messagesPerCallMax) ?? []
  }

  async #call(brokerGroup: string, pending: readonly Pending[]): Promise<void> {
    const messages = pending.map(({ handle, action }) => ({
      handle,
      action: action.kind,
      invisibleMs: action.kind === 'change' ? action.invisibleMs : 0,
    }))
    let repeated = false
    const options = {
      timeoutMs: this.#timeoutMs,
      onRepeat: () => {
        repeated = true
      },
    }
    const call = { method: brokerMethods.settle, request: { group: this.#group, messages } }
    const { results } = await callLeader(this.#ports, brokerGroup, call, options)
    for (const [at, one] of pending.entries()) settleOne(one, results[at], repeated)
  }
}

function settleOne({ action, resolve, reject }: Pending, result: SettleResult | undefined, repeated: boolean): void {
  if (!result) {
    reject(new LedgerError('SYSTEM_ERROR', 'the broker answered for fewer messages than it was asked about'))
    return
  }
  if (result.code === 0) {
    resolve(result.handle)
    return
  }
  const problem = fromWireStatus({ code: result.code, message: result.message, hint: '' })
  // The answer to an earlier attempt was lost: most likely that one did it. If not, another receiver has the message.
  if (repeated && action.kind === 'ack' && problem.code === 'RECEIPT_STALE') resolve('')
  else reject(problem)
}
