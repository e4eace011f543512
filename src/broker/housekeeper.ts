/**
 * What the leader proposes on its own account: settings that its operator configured, and the end of producers that
 * nobody has heard of for a day. Started by `broker.ts` with the replica.
 *
 * Nothing expires by itself on a replica: the leader proposes, apply checks against log time (B1). A lost proposal is
 * made again at the next round.
 */
import { frameTypes } from '../../store/index.ts'
import type { Cancel, Clock } from '../common/clock.ts'
import type { Logger } from '../common/logger.ts'
import { type Command, encodeCommand } from './apply/command.ts'
import type { ReplicaApi } from './contract.ts'

export interface HousekeepingSettings {
  /** RocketMQ's autoCreateTopicEnable; undefined leaves what the group has. */
  readonly autoCreateTopics?: boolean
}

const roundMs = 60_000
const proposeTimeoutMs = 10_000
/** Bounds the work of one entry; what is left waits for the next round. */
const expirePerRoundMax = 10_000

export class Housekeeper {
  readonly #replica: ReplicaApi
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #settings: HousekeepingSettings
  #cancel: Cancel = () => {}
  #removeListener = (): void => {}
  #busy = false
  #closed = false

  constructor(parts: {
    readonly replica: ReplicaApi
    readonly clock: Clock
    readonly logger: Logger
    readonly settings: HousekeepingSettings
  }) {
    this.#replica = parts.replica
    this.#clock = parts.clock
    this.#logger = parts.logger
    this.#settings = parts.settings
  }

  start(): void {
    this.#removeListener = this.#replica.onRoleChanged(() => void this.#round())
    this.#plan()
  }

  close(): void {
    this.#closed = true
    this.#cancel()
    this.#removeListener()
  }

  #plan(): void {
    this.#cancel = this.#clock.after(
      roundMs,
      () => {
        void this.#round()
        this.#plan()
      },
      { background: true },
    )
  }

  async #round(): Promise<void> {
    if (this.#busy || this.#closed || !this.#replica.leading) return
    this.#busy = true
    try {
      for (const command of this.#due()) {
        const body = [encodeCommand(command)]
        await this.#replica.propose(frameTypes.command, body, { timeoutMs: proposeTimeoutMs })
      }
    } catch (error) {
      // Deposed or without a quorum: whoever leads next does it.
      this.#logger.debug('housekeeping was not stored', {
        error: error instanceof Error ? error.message : String(error),
      })
    } finally {
      this.#busy = false
    }
  }

  #due(): readonly Command[] {
    const { machine } = this.#replica
    const due: Command[] = []
    const { autoCreateTopics } = this.#settings
    if (autoCreateTopics !== undefined && autoCreateTopics !== machine.autoCreateTopics)
      due.push({ kind: 'set_limits', limits: { autoCreateTopics } })
    if (machine.producerExpiryDue(machine.appliedTime)) {
      const idleBefore = Math.max(0, machine.appliedTime - machine.producerIdleMs)
      due.push({ kind: 'expire_producers', idleBefore, removeMax: expirePerRoundMax })
    }
    return due
  }
}
