/**
 * Where a reader that lags should go on reading (RocketMQ: suggestPullingFromSlave with
 * accessMessageInMemoryMaxRatio). Asked by the pull handler on the leader.
 *
 * Old data comes from disk and pushes the newest out of the leader's caches, which its writers need: a follower that
 * has caught up serves it as well.
 */
import type { Clock } from '../../common/clock.ts'
import type { ReplicaStatusReply } from '../../rpc/methods.ts'

/** RocketMQ: accessMessageInMemoryMaxRatio, in percent of the tail cache instead of the machine's memory. */
const memoryRatio = 0.4
/** A follower this many entries behind counts as caught up: under load none is at the very end. */
const lagEntriesMax = 1000
const refreshMs = 1000

interface Follower {
  readonly node: string
  readonly matchIndex: number
}

export class ReadAdvice {
  readonly #clock: Clock
  readonly #status: () => ReplicaStatusReply
  readonly #bytesMax: number
  #followers: readonly Follower[] = []
  #refreshedMs = Number.NEGATIVE_INFINITY

  constructor(options: {
    readonly clock: Clock
    readonly status: () => ReplicaStatusReply
    readonly tailCacheBytes: number
  }) {
    this.#clock = options.clock
    this.#status = options.status
    this.#bytesMax = options.tailCacheBytes * memoryRatio
  }

  /** Node to ask next, empty: stay. `key` spreads readers over the followers, the same key always the same way. */
  suggest(reader: {
    readonly bytesBehind: number
    readonly cold: boolean
    readonly index: number
    readonly key: number
  }): string {
    if (!reader.cold && reader.bytesBehind <= this.#bytesMax) return ''
    const able = this.#caughtUp().filter((follower) => follower.matchIndex >= reader.index)
    return able[reader.key % able.length]?.node ?? ''
  }

  #caughtUp(): readonly Follower[] {
    const nowMs = this.#clock.monotonicMs()
    if (nowMs - this.#refreshedMs < refreshMs) return this.#followers
    this.#refreshedMs = nowMs
    const { peers, commitIndex, node } = this.#status()
    this.#followers = peers.filter(
      (peer) => peer.connected && peer.node !== node && peer.matchIndex >= commitIndex - lagEntriesMax,
    )
    return this.#followers
  }
}
