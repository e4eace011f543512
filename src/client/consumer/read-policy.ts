/**
 * Which replica to read from: a pure choice, made anew for every pull. Used by the queue reader.
 *
 * Reading never needs a leader: whatever the policy, a replica that failed is passed over for another one, and taken
 * back after a while (`replica-failures.ts`). Only a named node is never replaced.
 */
import type { BrokerNode } from '../../rpc/methods.ts'
import type { GroupRoute } from '../route-table.ts'
import type { ReadFrom } from '../types.ts'

export interface ReplicaChoice {
  readonly node: BrokerNode
  /** Not the one that the policy wants: come back soon. */
  readonly fallback: boolean
}

export function chooseReplica(
  route: GroupRoute,
  readFrom: ReadFrom,
  state: {
    readonly usable: (node: BrokerNode) => boolean
    /** Usable again, but it failed not long ago: others are asked first. */
    readonly doubtful: (node: BrokerNode) => boolean
    /** What the last answer suggested, empty for none. */
    readonly suggested: string
    /** Spreads the queues of a consumer over the followers. */
    readonly spread: number
  },
): ReplicaChoice | null {
  const usable = route.nodes.filter(state.usable)
  const wanted = findWanted(route, readFrom, usable, state)
  if (wanted) return { node: wanted, fallback: false }
  if (typeof readFrom === 'object') return null
  const leader = usable.find((node) => node.node === route.leader?.node)
  const other = leader ?? usable[state.spread % Math.max(1, usable.length)]
  return other ? { node: other, fallback: true } : null
}

function findWanted(
  route: GroupRoute,
  readFrom: ReadFrom,
  usable: readonly BrokerNode[],
  state: Pick<Parameters<typeof chooseReplica>[2], 'doubtful' | 'suggested' | 'spread'>,
): BrokerNode | undefined {
  const leaderName = route.leader?.node
  if (typeof readFrom === 'object') return usable.find((node) => node.node === readFrom.node)
  switch (readFrom) {
    case 'leader':
      return usable.find((node) => node.node === leaderName)
    case 'suggested':
      return (
        usable.find((node) => state.suggested !== '' && node.node === state.suggested) ??
        usable.find((node) => node.node === leaderName)
      )
    case 'follower': {
      const followers = usable.filter((node) => node.node !== leaderName)
      // Two that hang would otherwise be asked in turns, each for as long as the other is passed over.
      const sound = followers.filter((node) => !state.doubtful(node))
      const chosen = sound.length > 0 ? sound : followers
      return chosen[state.spread % Math.max(1, chosen.length)]
    }
  }
}
