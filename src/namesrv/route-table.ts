/**
 * The route table of a namesrv: which brokers live, who leads each broker group, where the queues of a topic are
 * (RocketMQ: RouteInfoManager). Pure: time is passed in, nothing is sent from here; `namesrv.ts` owns the only one.
 *
 * It must never let an older claim to lead replace a newer one of the same incarnation (N1), nor mix two
 * incarnations of a group: a namesrv that forgot everything may hear of an old leader before it hears of the new one.
 */
import { invariant } from '../common/assert.ts'
import type { ErrorCode } from '../common/errors.ts'
import type { BrokerGroup, Registration, RouteReply, TopicInfo, TopicQueues, TopicRoute } from '../rpc/methods.ts'

/** Groups in the table, live or remembered for their terms. */
export const groupsMax = 1000
export const brokersPerGroupMax = 64
/** Histories of one group name whose highest term is remembered. */
const incarnationsRememberedMax = 16

/** What changed for readers of routes. */
export interface RouteChange {
  /** The set of brokers, an address or a leader changed. */
  readonly brokers: boolean
  /** Topics whose queues changed. */
  readonly topics: ReadonlySet<string>
}

export type RegisterOutcome =
  | {
      readonly kind: 'accepted'
      readonly change: RouteChange
      /** Streams that lost their broker to this registration. */
      readonly evicted: readonly number[]
      /** Set when the broker claims to lead but a newer claim is known: it counts as a follower. */
      readonly newerLeader: { readonly node: string; readonly address: string | null; readonly term: number } | null
    }
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly message: string }

interface LiveBroker {
  /** Number of the stream it registers on; a later stream has a larger number. */
  readonly stream: number
  readonly registration: Registration
  readonly heardMs: number
}

/** Highest term in which leadership of an incarnation was ever claimed here, by whom, and the highest one shown. */
interface Claim {
  readonly term: number
  readonly node: string
  shownTerm: number
}

interface Group {
  readonly name: string
  cluster: string
  incarnation: string
  readonly brokers: Map<string, LiveBroker>
  readonly claims: Map<string, Claim>
  view: BrokerGroup | null
  /** -1: nothing published. Grows within an incarnation, so that a late replica never hides a new topic. */
  topicsVersion: number
  topics: ReadonlyMap<string, TopicQueues>
}

const noChange: RouteChange = { brokers: false, topics: new Set() }

export class RouteTable {
  readonly #groups = new Map<string, Group>()
  readonly #groupOfStream = new Map<number, { readonly group: string; readonly node: string }>()
  readonly #groupOfAddress = new Map<string, { readonly group: string; readonly node: string }>()
  #version = 0

  /** Grows with every change that a reader could see. */
  get version(): number {
    return this.#version
  }

  get brokerCount(): number {
    return this.#groupOfStream.size
  }

  /** Takes a registration that came on this stream. The fields were checked by `checkRegistration`. */
  register(stream: number, registration: Registration, nowMs: number): RegisterOutcome {
    const refusal = this.#findRefusal(stream, registration)
    if (refusal) return refusal
    const group = this.#groupFor(registration)
    const evicted = this.#evict(group, stream, registration)
    const previous = group.brokers.get(registration.node)
    if (previous) this.#groupOfAddress.delete(previous.registration.address)
    group.brokers.set(registration.node, { stream, registration, heardMs: nowMs })
    const owner = { group: group.name, node: registration.node }
    this.#groupOfStream.set(stream, owner)
    this.#groupOfAddress.set(registration.address, owner)
    const newerLeader = recordClaim(group, registration)
    return { kind: 'accepted', change: this.#publish(group), evicted, newerLeader }
  }

  /** The stream ended: its broker is gone at once (RocketMQ: onChannelDestroy). */
  removeStream(stream: number): RouteChange {
    const owner = this.#groupOfStream.get(stream)
    const group = owner && this.#groups.get(owner.group)
    if (!owner || !group) return noChange
    this.#drop(group, owner.node)
    return this.#publish(group)
  }

  /** Removes brokers not heard of for `silentMs` and names their streams (RocketMQ: scanNotActiveBroker). */
  expire(nowMs: number, silentMs: number): { readonly change: RouteChange; readonly streams: readonly number[] } {
    const streams: number[] = []
    let change = noChange
    for (const group of this.#groups.values()) {
      const silent = [...group.brokers].filter(([, broker]) => nowMs - broker.heardMs > silentMs)
      for (const [node, broker] of silent) {
        streams.push(broker.stream)
        this.#drop(group, node)
      }
      if (silent.length > 0) change = mergeChanges(change, this.#publish(group))
    }
    return { change, streams }
  }

  /** All groups with live brokers, and the named topics as far as known. */
  route(topics: readonly string[]): RouteReply {
    const live = [...this.#groups.values()].filter((group) => group.view !== null)
    return {
      version: this.#version,
      groups: live.flatMap((group) => (group.view ? [group.view] : [])),
      topics: [...new Set(topics)].flatMap((topic): readonly TopicRoute[] => {
        const queues = live.flatMap((group) => group.topics.get(topic) ?? [])
        return queues.length > 0 ? [{ topic, queues }] : []
      }),
    }
  }

  #findRefusal(stream: number, registration: Registration): RegisterOutcome | null {
    const { group: name, node, address } = registration
    const owner = this.#groupOfStream.get(stream)
    if (owner && (owner.group !== name || owner.node !== node))
      return refused('WRONG_CLUSTER', `this stream registered node ${owner.node} of ${owner.group} before, not ${node}`)
    const group = this.#groups.get(name)
    if (!group && this.#groups.size >= groupsMax && !this.#forgetOneGroup())
      return refused('OVERLOADED', `this namesrv holds ${groupsMax} broker groups, its limit`)
    if (group && group.brokers.size > 0) {
      if (group.cluster !== registration.cluster)
        return refused('WRONG_CLUSTER', `group ${name} belongs to cluster ${group.cluster}`)
      if (group.incarnation !== registration.incarnation)
        return refused(
          'WRONG_CLUSTER',
          `group ${name} is alive with incarnation ${group.incarnation}; brokers of another one are refused until all of its brokers are gone`,
        )
      if (!group.brokers.has(node) && group.brokers.size >= brokersPerGroupMax)
        return refused('OVERLOADED', `group ${name} has ${brokersPerGroupMax} brokers, the limit`)
    }
    const sameNode = group?.brokers.get(node)
    if (sameNode && !mayReplace(sameNode, stream, registration))
      return refused(
        'WRONG_CLUSTER',
        `node ${node} of ${name} is registered by another process, in a later stream or term`,
      )
    const atAddress = this.#groupOfAddress.get(address)
    if (!atAddress || (atAddress.group === name && atAddress.node === node)) return null
    const other = this.#groups.get(atAddress.group)?.brokers.get(atAddress.node)
    if (other && (atAddress.group !== name || !mayReplace(other, stream, registration)))
      return refused(
        'WRONG_CLUSTER',
        `address ${address} is registered by node ${atAddress.node} of ${atAddress.group}`,
      )
    return null
  }

  #groupFor(registration: Registration): Group {
    const known = this.#groups.get(registration.group)
    if (!known) {
      const fresh: Group = {
        name: registration.group,
        cluster: registration.cluster,
        incarnation: registration.incarnation,
        brokers: new Map(),
        claims: new Map(),
        view: null,
        topicsVersion: -1,
        topics: new Map(),
      }
      this.#groups.set(fresh.name, fresh)
      return fresh
    }
    if (known.brokers.size === 0) {
      known.cluster = registration.cluster
      known.incarnation = registration.incarnation
    }
    return known
  }

  /** Lets go of brokers that this registration replaces: the same node on an older stream, or its address. */
  #evict(group: Group, stream: number, registration: Registration): readonly number[] {
    const evicted: number[] = []
    const atAddress = this.#groupOfAddress.get(registration.address)
    for (const node of new Set([registration.node, atAddress?.node ?? registration.node])) {
      const broker = group.brokers.get(node)
      if (!broker || broker.stream === stream) continue
      evicted.push(broker.stream)
      this.#drop(group, node)
    }
    return evicted
  }

  #drop(group: Group, node: string): void {
    const broker = group.brokers.get(node)
    if (!broker) return
    group.brokers.delete(node)
    this.#groupOfStream.delete(broker.stream)
    this.#groupOfAddress.delete(broker.registration.address)
  }

  /** Makes what readers see from what is known, and says what changed. */
  #publish(group: Group): RouteChange {
    const view = viewOf(group)
    const brokers = JSON.stringify(view) !== JSON.stringify(group.view)
    group.view = view
    const topics = publishTopics(group)
    if (brokers || topics.size > 0) this.#version += 1
    return { brokers, topics }
  }

  /** Makes room by forgetting the terms of a group without brokers. */
  #forgetOneGroup(): boolean {
    for (const group of this.#groups.values()) {
      if (group.brokers.size > 0) continue
      this.#groups.delete(group.name)
      return true
    }
    return false
  }
}

/** True when the registration may take the place of a broker that is registered on another stream. */
function mayReplace(broker: LiveBroker, stream: number, registration: Registration): boolean {
  if (broker.stream === stream) return true
  return stream > broker.stream && registration.term >= broker.registration.term
}

/** Remembers the newest claim to lead. Returns the known one when this claim is older, or a second one of its term. */
function recordClaim(
  group: Group,
  registration: Registration,
): { readonly node: string; readonly address: string | null; readonly term: number } | null {
  if (registration.role !== 'leader') return null
  const known = group.claims.get(group.incarnation)
  if (
    known &&
    (registration.term < known.term || (registration.term === known.term && registration.node !== known.node))
  )
    return { node: known.node, term: known.term, address: group.brokers.get(known.node)?.registration.address ?? null }
  group.claims.set(group.incarnation, {
    term: registration.term,
    node: registration.node,
    shownTerm: known?.shownTerm ?? 0,
  })
  for (const incarnation of group.claims.keys()) {
    if (group.claims.size <= incarnationsRememberedMax) break
    if (incarnation !== group.incarnation) group.claims.delete(incarnation)
  }
  return null
}

/** The broker whose claim to lead is the newest, if it lives and still makes it. */
function leaderOf(group: Group): LiveBroker | null {
  const claim = group.claims.get(group.incarnation)
  const broker = claim && group.brokers.get(claim.node)
  if (broker?.registration.role !== 'leader') return null
  return broker.registration.term === claim?.term ? broker : null
}

function viewOf(group: Group): BrokerGroup | null {
  if (group.brokers.size === 0) return null
  const leader = leaderOf(group)
  const view: BrokerGroup = {
    cluster: group.cluster,
    group: group.name,
    incarnation: group.incarnation,
    term: leader?.registration.term ?? 0,
    leader: leader?.registration.node ?? '',
    nodes: [...group.brokers.values()]
      .map((broker) => ({ node: broker.registration.node, address: broker.registration.address }))
      .sort((a, b) => (a.node < b.node ? -1 : 1)),
  }
  const claim = group.claims.get(group.incarnation)
  if (leader && claim) {
    invariant(view.term >= claim.shownTerm, 'N1: a route never goes back in term within an incarnation')
    claim.shownTerm = view.term
  }
  return view
}

/** Takes the topics of the leader, or of the best informed follower when there is none. */
function publishTopics(group: Group): ReadonlySet<string> {
  if (group.view === null) {
    const gone = new Set(group.topics.keys())
    group.topics = new Map()
    group.topicsVersion = -1
    return gone
  }
  const source = leaderOf(group) ?? bestInformed(group)
  if (!source || source.registration.topicsVersion <= group.topicsVersion) return new Set()
  const topics = new Map(source.registration.topics.map((topic) => [topic.config.topic, queuesOf(group.name, topic)]))
  const changed = changedTopics(group.topics, topics)
  group.topics = topics
  group.topicsVersion = source.registration.topicsVersion
  return changed
}

function bestInformed(group: Group): LiveBroker | null {
  let best: LiveBroker | null = null
  for (const broker of group.brokers.values())
    if (!best || broker.registration.topicsVersion > best.registration.topicsVersion) best = broker
  return best
}

function queuesOf(group: string, topic: TopicInfo): TopicQueues {
  const { readQueues, writeQueues, permission } = topic.config
  return { group, topicId: topic.topicId, readQueues, writeQueues, permission }
}

function changedTopics(
  before: ReadonlyMap<string, TopicQueues>,
  after: ReadonlyMap<string, TopicQueues>,
): ReadonlySet<string> {
  const changed = new Set<string>()
  for (const [topic, queues] of after)
    if (JSON.stringify(before.get(topic)) !== JSON.stringify(queues)) changed.add(topic)
  for (const topic of before.keys()) if (!after.has(topic)) changed.add(topic)
  return changed
}

function mergeChanges(a: RouteChange, b: RouteChange): RouteChange {
  return { brokers: a.brokers || b.brokers, topics: new Set([...a.topics, ...b.topics]) }
}

function refused(code: ErrorCode, message: string): RegisterOutcome {
  return { kind: 'refused', code, message }
}
