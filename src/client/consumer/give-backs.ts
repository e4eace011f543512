/**
 * Gives messages back to the broker group that they came from. Used by `failed-messages.ts`. Per queue one request is
 * under way, and what fails meanwhile goes together with the next.
 *
 * The broker takes each message once, so a request whose answer was lost is simply asked again.
 */
import { toLedgerError } from '../../common/errors.ts'
import type { GivenBackMessage } from '../../rpc/group-messages.ts'
import { brokerMethods } from '../../rpc/methods.ts'
import { callLeader } from '../leader-call.ts'
import type { BrokerGroupState } from './broker-group-state.ts'
import type { HeldQueue } from './held-queue.ts'
import type { ConsumerPorts } from './push-settings.ts'

/** As many as the broker takes at once. */
const perRequestMax = 64

interface Waiting {
  readonly message: GivenBackMessage
  readonly resolve: (outcome: string | null) => void
}

export class GiveBacks {
  readonly #ports: ConsumerPorts
  readonly #identity: { readonly group: string; readonly member: string }
  readonly #states: ReadonlyMap<string, BrokerGroupState>
  readonly #waiting = new Map<HeldQueue, Waiting[]>()

  constructor(
    ports: ConsumerPorts,
    identity: { readonly group: string; readonly member: string },
    states: ReadonlyMap<string, BrokerGroupState>,
  ) {
    this.#ports = ports
    this.#identity = identity
    this.#states = states
  }

  /** What the broker made of it, as in `GiveBackReply`; null when it would not take it. Never rejects. */
  giveBack(held: HeldQueue, message: GivenBackMessage): Promise<string | null> {
    return new Promise((resolve) => {
      const waiting = this.#waiting.get(held)
      if (waiting) {
        waiting.push({ message, resolve })
        return
      }
      this.#waiting.set(held, [{ message, resolve }])
      void this.#sendAll(held)
    })
  }

  async #sendAll(held: HeldQueue): Promise<void> {
    for (let part = this.#next(held); part.length > 0; part = this.#next(held)) {
      const outcomes = await this.#send(held, part)
      for (const [at, { resolve }] of part.entries()) resolve(outcomes?.[at] ?? null)
    }
    this.#waiting.delete(held)
  }

  #next(held: HeldQueue): readonly Waiting[] {
    return this.#waiting.get(held)?.splice(0, perRequestMax) ?? []
  }

  async #send(held: HeldQueue, part: readonly Waiting[]): Promise<readonly string[] | null> {
    const state = this.#states.get(held.queue.group)
    if (!state) return null
    const { topic, queue, group: brokerGroup } = held.queue
    const entries = part.map(({ message }) => message)
    // Of the generation that they were consumed in: a later one may own queues of the same names in a new topic.
    const request = { ...this.#identity, generation: state.generation, topic, queue, entries }
    const options = { timeoutMs: this.#ports.requestTimeoutMs, signal: held.abort.signal }
    try {
      const call = { method: brokerMethods.giveBack, request }
      return (await callLeader(this.#ports, brokerGroup, call, options)).outcomes
    } catch (cause) {
      const error = toLedgerError(cause)
      this.#ports.logger.warn('giving messages back failed', { ...held.queue, error: error.message })
      if (error.code === 'ILLEGAL_GENERATION') state.member.beat()
      return null
    }
  }
}
