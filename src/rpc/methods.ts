/**
 * Every method of the wire as a typed descriptor, with the shape of its messages.
 *
 * Mirrors `proto/ledgermq/v1/*.proto` field by field (a test compares both). Numbers that are 64 bit on the wire are
 * JavaScript numbers here and are checked to be safe integers when they come in. A reply's `status` never shows here:
 * the server sets it from a thrown LedgerError and the caller gets it thrown.
 */
import type { Permission, StreamMethod, UnaryMethod } from './transport.ts'

export interface TopicConfig {
  readonly topic: string
  readonly readQueues: number
  readonly writeQueues: number
  /** Bits: 4 read, 2 write. */
  readonly permission: number
}

export interface TopicInfo {
  readonly config: TopicConfig
  readonly topicId: number
}

// namesrv.proto

export interface Registration {
  readonly cluster: string
  readonly group: string
  readonly node: string
  readonly address: string
  readonly incarnation: string
  readonly term: number
  readonly role: string
  readonly topics: readonly TopicInfo[]
  readonly topicsVersion: number
}

/** On a stream a refusal is data: code 0 is success. */
export interface WireStatus {
  readonly code: number
  readonly message: string
  readonly hint: string
  readonly leaderNode?: string
  readonly leaderAddress?: string
  readonly term?: number
  readonly retryAfterMs?: number
  readonly minOffset?: number
  readonly maxOffset?: number
}

export interface RegistrationAck {
  readonly intervalMs: number
  readonly status?: WireStatus
}

export interface RouteRequest {
  readonly topics: readonly string[]
}

export interface BrokerNode {
  readonly node: string
  readonly address: string
}

export interface BrokerGroup {
  readonly cluster: string
  readonly group: string
  readonly incarnation: string
  readonly term: number
  /** Empty when no leader is known. */
  readonly leader: string
  readonly nodes: readonly BrokerNode[]
}

export interface TopicQueues {
  readonly group: string
  readonly topicId: number
  readonly readQueues: number
  readonly writeQueues: number
  readonly permission: number
}

export interface TopicRoute {
  readonly topic: string
  readonly queues: readonly TopicQueues[]
}

export interface RouteReply {
  readonly version: number
  readonly groups: readonly BrokerGroup[]
  readonly topics: readonly TopicRoute[]
}

// broker.proto (Produce and Pull: see envelopes.ts)

export interface QueueOffset {
  readonly topic: string
  readonly queue: number
  readonly offset: number
}

export interface CommitOffsetsRequest {
  readonly group: string
  readonly member: string
  readonly generation: number
  readonly offsets: readonly QueueOffset[]
  readonly seek: boolean
}

export interface CommitOffsetsReply {
  readonly offsets: readonly QueueOffset[]
}

export interface FetchOffsetsRequest {
  readonly group: string
  readonly queues: readonly QueueOffset[]
}

export interface FetchedOffset {
  readonly topic: string
  readonly queue: number
  /** Absent where the group never committed. */
  readonly offset?: number
}

export interface FetchOffsetsReply {
  readonly offsets: readonly FetchedOffset[]
}

export interface QueryOffsetsRequest {
  readonly topic: string
  readonly queue: number
  readonly time?: number
}

export interface QueryOffsetsReply {
  readonly minOffset: number
  readonly maxOffset: number
  readonly offsetByTime?: number
  readonly topicId: number
}

export interface GroupHeartbeatRequest {
  readonly group: string
  readonly member: string
  readonly topics: readonly string[]
  readonly generation: number
  readonly sessionTimeoutMs: number
}

export interface AssignedQueue {
  readonly topic: string
  readonly queue: number
}

export interface GroupHeartbeatReply {
  readonly generation: number
  readonly queues: readonly AssignedQueue[]
  readonly intervalMs: number
}

export interface LeaveGroupRequest {
  readonly group: string
  readonly member: string
}

export interface ProbeReply {
  readonly group: string
  readonly node: string
  readonly leader: boolean
}

export type Empty = Readonly<Record<string, never>>

// admin.proto

export interface CreateTopicRequest {
  readonly config: TopicConfig
  readonly automatic: boolean
}

export interface UpdateTopicRequest {
  readonly config: TopicConfig
}

export interface TopicReply {
  readonly topic: TopicInfo
}

export interface TopicName {
  readonly topic: string
}

export interface DeleteTopicRequest extends TopicName {
  /** Only this one: a topic that was created since under the same name stays. */
  readonly topicId?: number
}

export interface QueueRange {
  readonly queue: number
  readonly minOffset: number
  readonly maxOffset: number
}

export interface DescribeTopicReply {
  readonly topic: TopicInfo
  readonly queues: readonly QueueRange[]
}

export interface ListTopicsReply {
  readonly topics: readonly TopicInfo[]
}

export interface ReplicaPeer {
  readonly node: string
  readonly raftAddress: string
  readonly matchIndex: number
  readonly state: string
  readonly connected: boolean
  /** Why there is no connection, in the words of the last attempt. */
  readonly problem?: string
}

/** Of a replica that copies what the group's log has left behind. */
export interface CopyStatus {
  /** Node that is being copied from; empty while none can be. */
  readonly source: string
  /** `log`, `state`, `install` or `wait`. */
  readonly phase: string
  readonly fetchedBytes: number
  readonly totalBytes: number
  /** Why nothing can be copied now; empty while something is. */
  readonly problem: string
}

/** The background check of the log. */
export interface ScrubProgress {
  readonly position: number
  /** Passes that are complete since the start. */
  readonly passes: number
}

export interface ReplicaStatusReply {
  readonly cluster: string
  readonly group: string
  readonly node: string
  readonly incarnation: string
  readonly role: string
  readonly reason: string
  readonly term: number
  readonly vote: string
  readonly leader: string
  readonly firstIndex: number
  readonly lastIndex: number
  readonly durableIndex: number
  readonly commitIndex: number
  readonly appliedIndex: number
  readonly logBytes: number
  readonly stateHash: string
  readonly pid: number
  readonly uptimeMs: number
  readonly peers: readonly ReplicaPeer[]
  readonly address: string
  /** Of the disk with the data folder, as last measured; 0 before. */
  readonly diskTotalBytes: number
  readonly diskFreeBytes: number
  readonly catchUp?: CopyStatus
  /** Why this node must not vote; empty when it may. */
  readonly quarantine: string
  /** Entries that cannot be read here now. */
  readonly holes: readonly LogRange[]
  /** Entries that no member can read. */
  readonly lost: readonly LogRange[]
  readonly scrub?: ScrubProgress
}

export interface GroupMember {
  readonly node: string
  readonly disk: string
  readonly raftAddress: string
  /** Where clients reach it; empty until the answering node heard it. */
  readonly address: string
  /** `voter`, `joining_voter`, `leaving_voter` or `learner`. */
  readonly role: string
  /** A learner that becomes a voter by itself once it holds the log. */
  readonly promote: boolean
  readonly priority: number
  /** What the leader knows to be on its disk. */
  readonly matchIndex: number
  readonly connected: boolean
  readonly problem?: string
}

export interface MembershipReply {
  readonly group: string
  readonly leader: string
  readonly term: number
  /** Index of the configuration entry; 0 is the first configuration. */
  readonly index: number
  readonly committed: boolean
  readonly members: readonly GroupMember[]
  /** What is not finished yet, in words; empty when a change may begin. */
  readonly underWay: string
  readonly lastIndex: number
  /** Nodes that come back with another disk once their old selves are out. */
  readonly returning: readonly Member[]
  /** Which group of this name it is; absent from brokers that do not tell. */
  readonly incarnation?: string
}

export interface ChangeMembershipRequest {
  /** `add`, `remove`, `promote`, `replace` or `priority`. */
  readonly kind: string
  readonly node: string
  /** Where peers reach the node: of `add`, and of `replace` when it moved. */
  readonly raftAddress: string
  /** Of `add`: stay a learner. */
  readonly learner: boolean
  readonly priority: number
  /** Go on although the group may be left without a majority of reachable voters. */
  readonly force: boolean
  /** The group that is meant: any other one answers FOREIGN_GROUP. Absent: whoever has the address. */
  readonly incarnation?: string
}

export interface TransferLeadershipRequest {
  /** Empty: the voter that holds most of the log. */
  readonly to: string
  /** As of `ChangeMembershipRequest`. */
  readonly incarnation?: string
}

export interface TransferLeadershipReply {
  readonly leader: string
  readonly term: number
}

export interface WatchEventsRequest {
  readonly fromSequence: number
}

export interface NodeEvent {
  readonly sequence: number
  readonly wallMs: number
  readonly group: string
  readonly node: string
  readonly term: number
  readonly kind: string
  readonly details: Readonly<Record<string, string>>
}

// raft.proto (Control, Bulk and HelloReply: see peer-codec.ts)

/** Who speaks to whom: the first word of a stream, and part of every call that copies. */
export interface Hello {
  readonly cluster: string
  readonly group: string
  readonly incarnation: string
  readonly fromNode: string
  readonly fromDisk: string
  readonly toNode: string
  readonly toDisk: string
  /** Where clients reach the sender. */
  readonly fromAddress: string
  readonly protocolMin: number
  readonly protocolMax: number
  readonly build: string
  readonly featureLevel: number
  /** Index of the newest configuration in the sender's log; 0: the first one, or none there names the sender. */
  readonly membershipIndex: number
  /** Where peers reach the sender: its configuration may be unknown to the receiver. */
  readonly fromRaftAddress: string
}

export interface Member {
  readonly node: string
  readonly disk: string
  readonly raftAddress: string
}

export interface FirstConfiguration {
  readonly cluster: string
  readonly group: string
  readonly incarnation: string
  readonly members: readonly Member[]
  readonly segmentBytes: number
  readonly featureLevel: number
  /** What the group was before it was recovered by force from one survivor; the oldest first. */
  readonly formerIncarnations: readonly string[]
}

export interface BootstrapRequest {
  readonly cluster: string
  readonly group: string
  readonly fromNode: string
  readonly fromDisk: string
  readonly nodeAddresses: readonly string[]
  readonly segmentBytes: number
  readonly configuration?: FirstConfiguration
}

export interface BootstrapReply {
  readonly disk: string
  readonly configuration?: FirstConfiguration
}

export interface DescribeRequest {
  readonly cluster: string
  readonly group: string
  readonly fromNode: string
  readonly fromDisk: string
}

/** A membership as it lies in a configuration entry; index 0 is the first configuration. */
export interface DescribedMembership {
  readonly index: number
  readonly voters: readonly Member[]
  readonly outgoing: readonly Member[]
  readonly learners: readonly Member[]
}

export interface DescribeReply {
  readonly node: string
  /** Of the folder of the answering node. */
  readonly disk: string
  /** Absent when the answering node has no group yet. */
  readonly configuration?: FirstConfiguration
  readonly membership?: DescribedMembership
  readonly firstIndex: number
  readonly lastIndex: number
  readonly commitIndex: number
  readonly term: number
  /** Empty when no leader is known. */
  readonly leader: string
}

export interface DescribeLogRequest {
  readonly hello?: Hello
}

/** The end of what lies before the first entry of a log. */
export interface WireLogOrigin {
  readonly position: number
  readonly index: number
  readonly term: number
  readonly checksum: number
}

export interface DescribeLogReply {
  readonly firstIndex: number
  /** Where a copy of this log begins. */
  readonly origin?: WireLogOrigin
  /** Last entry that FetchLog gives: committed and durable. */
  readonly lastIndex: number
  readonly endPosition: number
  /** 0: no state to give. */
  readonly appliedIndex: number
  readonly leads: boolean
}

export interface FetchLogRequest {
  readonly hello?: Hello
  readonly fromIndex: number
  readonly toIndex: number
  readonly bytesMax: number
  /** Durable entries that may not be committed are welcome, too. */
  readonly uncommitted: boolean
}

/** Entries [fromIndex, toIndex]. */
export interface LogRange {
  readonly fromIndex: number
  readonly toIndex: number
}

export interface FetchLogReply {
  readonly frames: Buffer
  readonly firstIndex: number
  readonly lastIndex: number
  readonly endPosition: number
  /** The entry behind the frames lies in this range, which is rotten here. */
  readonly rotten?: LogRange
}

export interface FetchStateRequest {
  /** In the first request only. */
  readonly hello?: Hello
  readonly bytesMax: number
}

export interface FetchStateReply {
  readonly appliedIndex: number
  readonly hash: string
  readonly rows: Buffer
  /** CRC-32 of all rows so far, these included. */
  readonly checksum: number
  readonly rowCount: number
  readonly last: boolean
}

function unary<Request, Response>(
  service: string,
  name: string,
  permission: Permission,
): UnaryMethod<Request, Response> {
  return { kind: 'unary', service, name, permission }
}

function stream<Up, Down>(
  service: string,
  name: string,
  permission: Permission,
  codec: 'bytes' | 'object',
): StreamMethod<Up, Down> {
  return { kind: 'stream', service, name, permission, codec }
}

export const namesrvMethods: {
  readonly register: StreamMethod<Registration, RegistrationAck>
  readonly getRoute: UnaryMethod<RouteRequest, RouteReply>
  readonly watchRoute: StreamMethod<RouteRequest, RouteReply>
} = {
  register: stream('Namesrv', 'Register', 'register', 'object'),
  getRoute: unary('Namesrv', 'GetRoute', 'route'),
  watchRoute: stream('Namesrv', 'WatchRoute', 'route', 'object'),
}

export const brokerMethods: {
  readonly produce: StreamMethod<Buffer, Buffer>
  readonly pull: StreamMethod<Buffer, Buffer>
  readonly commitOffsets: UnaryMethod<CommitOffsetsRequest, CommitOffsetsReply>
  readonly fetchOffsets: UnaryMethod<FetchOffsetsRequest, FetchOffsetsReply>
  readonly queryOffsets: UnaryMethod<QueryOffsetsRequest, QueryOffsetsReply>
  readonly groupHeartbeat: UnaryMethod<GroupHeartbeatRequest, GroupHeartbeatReply>
  readonly leaveGroup: UnaryMethod<LeaveGroupRequest, Empty>
  readonly probe: UnaryMethod<Empty, ProbeReply>
} = {
  produce: stream('Broker', 'Produce', 'produce', 'bytes'),
  pull: stream('Broker', 'Pull', 'consume', 'bytes'),
  commitOffsets: unary('Broker', 'CommitOffsets', 'consume'),
  fetchOffsets: unary('Broker', 'FetchOffsets', 'consume'),
  queryOffsets: unary('Broker', 'QueryOffsets', 'consume'),
  groupHeartbeat: unary('Broker', 'GroupHeartbeat', 'consume'),
  leaveGroup: unary('Broker', 'LeaveGroup', 'consume'),
  probe: unary('Broker', 'Probe', 'open'),
}

export const adminMethods: {
  readonly createTopic: UnaryMethod<CreateTopicRequest, TopicReply>
  readonly updateTopic: UnaryMethod<UpdateTopicRequest, TopicReply>
  readonly deleteTopic: UnaryMethod<DeleteTopicRequest, Empty>
  readonly describeTopic: UnaryMethod<TopicName, DescribeTopicReply>
  readonly listTopics: UnaryMethod<Empty, ListTopicsReply>
  readonly getReplicaStatus: UnaryMethod<Empty, ReplicaStatusReply>
  readonly getMembership: UnaryMethod<Empty, MembershipReply>
  readonly changeMembership: UnaryMethod<ChangeMembershipRequest, MembershipReply>
  readonly transferLeadership: UnaryMethod<TransferLeadershipRequest, TransferLeadershipReply>
  readonly watchEvents: StreamMethod<WatchEventsRequest, NodeEvent>
} = {
  createTopic: unary('Admin', 'CreateTopic', 'admin'),
  updateTopic: unary('Admin', 'UpdateTopic', 'admin'),
  deleteTopic: unary('Admin', 'DeleteTopic', 'admin'),
  describeTopic: unary('Admin', 'DescribeTopic', 'route'),
  listTopics: unary('Admin', 'ListTopics', 'route'),
  getReplicaStatus: unary('Admin', 'GetReplicaStatus', 'route'),
  getMembership: unary('Admin', 'GetMembership', 'route'),
  changeMembership: unary('Admin', 'ChangeMembership', 'admin'),
  transferLeadership: unary('Admin', 'TransferLeadership', 'admin'),
  watchEvents: stream('Admin', 'WatchEvents', 'route', 'object'),
}

export const raftMethods: {
  readonly control: StreamMethod<Buffer, Buffer>
  readonly bulk: StreamMethod<Buffer, Buffer>
  readonly bootstrap: UnaryMethod<BootstrapRequest, BootstrapReply>
  readonly describe: UnaryMethod<DescribeRequest, DescribeReply>
  readonly describeLog: UnaryMethod<DescribeLogRequest, DescribeLogReply>
  readonly fetchLog: UnaryMethod<FetchLogRequest, FetchLogReply>
  readonly fetchState: StreamMethod<FetchStateRequest, FetchStateReply>
} = {
  control: stream('Raft', 'Control', 'peer', 'bytes'),
  bulk: stream('Raft', 'Bulk', 'peer', 'bytes'),
  bootstrap: unary('Raft', 'Bootstrap', 'peer'),
  describe: unary('Raft', 'Describe', 'peer'),
  describeLog: unary('Raft', 'DescribeLog', 'peer'),
  fetchLog: unary('Raft', 'FetchLog', 'peer'),
  fetchState: stream('Raft', 'FetchState', 'peer', 'object'),
}
