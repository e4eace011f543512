/**
 * What the client knows of broker groups and topics, merged from route pushes, polls and leader hints. Pure state: the
 * route cache feeds it, everyone reads it. It never forgets what still works because a namesrv came back empty, and it
 * never goes back to a smaller term within one incarnation (N1).
 */
import { invariant } from '../common/assert.ts'
import type { BrokerNode, RouteReply, TopicInfo, TopicQueues } from '../rpc/methods.ts'
import type { MessageQueue } from './types.ts'

export interface GroupRoute {
  readonly cluster: string
  readonly group: string
  readonly incarnation: string
  /** Highest term known of this incarnation. */
  readonly term: number
  /** Leader of that term, null when it is not known. */
  readonly leader: BrokerNode | null
  readonly nodes: readonly BrokerNode[]
}

export interface LeaderChange {
  readonly group: string
  readonly from: BrokerNode | null
  readonly to: BrokerNode | null
  readonly term: number
}

export const readPermission = 4
export const writePermission = 2

/** What is known of a topic: on which groups, with how many queues. */
export type TopicState = readonly TopicQueues[]

export class RouteTable {
  readonly #groups = new Map<string, GroupRoute>()
  /** Terms of incarnations seen before, so that going back to one does not go back in term. */
  readonly #highest = new Map<string, { readonly term: number; readonly leader: BrokerNode | null }>()
  readonly #topics = new Map<string, TopicState>()

  group(name: string): GroupRoute | undefined {
    return this.#groups.get(name)
  }

  groups(): readonly GroupRoute[] {
    return [...this.#groups.values()]
  }

  /** Empty when the group is not known. A group that was recovered by force has another one than before. */
  incarnation(name: string): string {
    return this.#groups.get(name)?.incarnation ?? ''
  }

  topic(name: string): TopicState | undefined {
    return this.#topics.get(name)
  }

  topics(): readonly string[] {
    return [...this.#topics.keys()]
  }

  topicId(queue: MessageQueue): number {
    return this.#topics.get(queue.topic)?.find((entry) => entry.group === queue.group)?.topicId ?? 0
  }

  /** Queues that allow this, interleaved over the groups so that a round robin alternates between them. */
  queues(topic: string, access: 'read' | 'write'): readonly MessageQueue[] {
    const usable = (this.#topics.get(topic) ?? []).filter(
      (entry) => (entry.permission & (access === 'read' ? readPermission : writePermission)) !== 0,
    )
    const found: { readonly order: number; readonly queue: MessageQueue }[] = []
    for (const entry of usable) {
      const count = access === 'read' ? entry.readQueues : entry.writeQueues
      for (let queue = 0; queue < count; queue++)
        found.push({ order: queue, queue: { topic, group: entry.group, queue } })
    }
    return found.sort((a, b) => a.order - b.order).map((row) => row.queue)
  }

  /** A leader told about the topic itself: no need to wait for the namesrv. */
  learnTopic(group: string, topic: TopicInfo): void {
    const { topic: name, readQueues, writeQueues, permission } = topic.config
    const others = (this.#topics.get(name) ?? []).filter((entry) => entry.group !== group)
    const entry = { group, topicId: topic.topicId, readQueues, writeQueues, permission }
    this.#topics.set(
      name,
      [...others, entry].sort((a, b) => (a.group < b.group ? -1 : 1)),
    )
  }

  /** The topic was refused as unknown by its group's leader: the next reply decides. */
  dropTopic(topic: string, group: string): void {
    const rest = this.#topics.get(topic)?.filter((entry) => entry.group !== group)
    if (rest && rest.length > 0) this.#topics.set(topic, rest)
    else this.#topics.delete(topic)
  }

  /** A push or poll of a namesrv. Returns the leaders that changed. */
  merge(reply: RouteReply): readonly LeaderChange[] {
    const changes: LeaderChange[] = []
    for (const group of reply.groups) {
      const leader = group.nodes.find((node) => node.node === group.leader) ?? null
      const change = this.#mergeGroup({ ...group, leader })
      if (change) changes.push(change)
    }
    const listed = new Set(reply.groups.map((group) => group.group))
    for (const { topic, queues } of reply.topics) {
      // A namesrv that does not know a group yet says nothing about its topics.
      const kept = (this.#topics.get(topic) ?? []).filter((entry) => !listed.has(entry.group))
      const merged = [...kept, ...queues].sort((a, b) => (a.group < b.group ? -1 : 1))
      if (merged.length > 0) this.#topics.set(topic, merged)
      else this.#topics.delete(topic)
    }
    return changes
  }

  /** A hint or an answer told who leads. Ignored when it is older than what is known. */
  learnLeader(name: string, term: number, leader: BrokerNode): LeaderChange | null {
    const known = this.#groups.get(name)
    if (!known) return null
    return this.#mergeGroup({ ...known, term, leader })
  }

  #mergeGroup(claim: GroupRoute): LeaderChange | null {
    const key = `${claim.group}/${claim.incarnation}`
    const best = this.#highest.get(key) ?? { term: 0, leader: null }
    // One leader per term (R1): who claims another one for the same term is wrong, only its address may be news.
    const isSame = claim.leader !== null && (best.leader === null || best.leader.node === claim.leader.node)
    const newer = claim.term > best.term || (claim.term === best.term && isSame)
    const term = Math.max(claim.term, best.term)
    const leader = newer ? claim.leader : (claim.nodes.find((node) => node.node === best.leader?.node) ?? best.leader)
    invariant(term >= best.term, `N1: the route of ${key} went back from term ${best.term} to ${term}`)
    this.#highest.set(key, { term, leader })
    const before = this.#groups.get(claim.group)
    // An empty list comes from a namesrv that just started; the addresses known so far may still work.
    const nodes = claim.nodes.length > 0 ? mergeNodes(claim.nodes, before, claim.incarnation) : (before?.nodes ?? [])
    this.#groups.set(claim.group, { ...claim, term, leader, nodes })
    const moved = before?.term !== term || before?.leader?.address !== leader?.address
    return moved ? { group: claim.group, from: before?.leader ?? null, to: leader, term } : null
  }
}

/** New addresses win; replicas that are not listed any more stay, for the day all namesrvs are wrong. */
function mergeNodes(
  nodes: readonly BrokerNode[],
  before: GroupRoute | undefined,
  incarnation: string,
): readonly BrokerNode[] {
  if (!before || before.incarnation !== incarnation) return nodes
  const gone = before.nodes.filter((node) => !nodes.some((listed) => listed.node === node.node))
  return [...nodes, ...gone].sort((a, b) => (a.node < b.node ? -1 : 1))
}
