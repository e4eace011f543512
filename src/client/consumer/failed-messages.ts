/**
 * What becomes of a message whose listener failed: it is given back to its broker group, tried again here, or given up.
 * Owned by the dispatch of a push consumer.
 *
 * A message that the broker would not take is tried again here: nothing is skipped because a leader is away.
 */
import { sleep } from '../../common/clock.ts'
import type { BrokerGroupState } from './broker-group-state.ts'
import type { GiveBacks } from './give-backs.ts'
import type { HeldQueue } from './held-queue.ts'
import type { Heard } from './listener-call.ts'
import type { Delivery } from './process-queue.ts'
import type { ConsumerPorts, PushSettings } from './push-settings.ts'

type Failure = Extract<Heard, { readonly kind: 'failed' }>

export interface FailedMessagesParts {
  readonly settings: PushSettings
  readonly giveBacks: GiveBacks
  readonly states: ReadonlyMap<string, BrokerGroupState>
  /** A message of this broker group will come again through the retry topic of the group. */
  readonly onGivenBack: (brokerGroup: string) => void
  /** A message is to be handed out again. */
  readonly onDue: () => void
}

export class FailedMessages {
  readonly #ports: ConsumerPorts
  readonly #parts: FailedMessagesParts

  constructor(ports: ConsumerPorts, parts: FailedMessagesParts) {
    this.#ports = ports
    this.#parts = parts
  }

  /** Until it resolves the message counts as running, so that whoever gives the queue up waits for it. */
  async take(held: HeldQueue, delivery: Delivery, failure: Failure): Promise<void> {
    const attempt = attemptOf(delivery)
    const { offset } = delivery.message
    this.#ports.logger.warn('listener failed', { ...held.queue, offset, attempt, reason: failure.reason })
    if (await this.#isSettled(held, delivery, failure)) held.process.finished(delivery)
    else this.#retryHere(held, delivery)
  }

  /** True: it is nothing of this queue any more. */
  async #isSettled(held: HeldQueue, delivery: Delivery, { reason, delayLevel }: Failure): Promise<boolean> {
    const { settings, giveBacks } = this.#parts
    const { queue, offset, messageId } = delivery.message
    const isLast = attemptOf(delivery) >= this.#attemptsMax(held)
    const isLocal = settings.retry === 'local'
    if (isLocal && !isLast) return false
    const isKept = isLocal && !settings.ordered
    const outcome = isKept ? 'dropped' : await giveBacks.giveBack(held, { offset, delayLevel, deadLetter: isLast })
    if (outcome === null) return false
    if (outcome === 'retry') this.#parts.onGivenBack(queue.group)
    if (isLast || outcome === 'dead_letter')
      this.#ports.status.emit({ kind: 'messageGivenUp', queue, offset, messageId, reason })
    return true
  }

  /** In order, a message holds up its queue no longer than the group allows. */
  #attemptsMax({ queue }: HeldQueue): number {
    const { attemptsMax, ordered } = this.#parts.settings
    const retriesMax = this.#parts.states.get(queue.group)?.member.retriesMax
    return ordered && retriesMax !== undefined ? Math.min(attemptsMax, retriesMax + 1) : attemptsMax
  }

  #retryHere(held: HeldQueue, delivery: Delivery): void {
    const { ordered, suspendMs, retryDelayMs, retryDelayMsMax } = this.#parts.settings
    const backoffMs = Math.min(retryDelayMsMax, retryDelayMs * 2 ** Math.min(delivery.failures, 20))
    held.process.failed()
    held.suspended = true
    sleep(this.#ports.clock, ordered ? suspendMs : backoffMs, held.abort.signal).then(
      () => {
        held.process.retry(delivery)
        held.suspended = false
        this.#parts.onDue()
      },
      // The queue is no longer ours: the message comes again at its new owner.
      () => {},
    )
  }
}

/** Which call of a listener this is, over all deliveries of the message. */
export function attemptOf({ message, failures }: Delivery): number {
  return message.attempt + failures + 1
}
