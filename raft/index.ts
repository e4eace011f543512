/** The door of `raft/`: everything else in this folder is internal. */
export { InvariantError, invariant, unreachable } from './assert.ts'
export type { Boot, RaftConfig, Random } from './config.ts'
export { checkRaftConfig, defaultRaftConfig } from './config.ts'
export { RaftCore } from './core.ts'
export { enterJoint, isLegalStep, leaveJoint, type MembershipTarget, membersMax } from './membership.ts'
export type {
  Append,
  AppendResponse,
  CatchUp,
  Heartbeat,
  HeartbeatResponse,
  PeerMessage,
  PreVoteRequest,
  PreVoteResponse,
  ReadRequest,
  ReadResponse,
  SteppedDown,
  TimeoutNow,
  VoteRefusal,
  VoteRequest,
  VoteResponse,
} from './messages.ts'
export { isVoter, membersOf, votersOf } from './quorum.ts'
export type {
  ChangeRefusal,
  Input,
  PeerStatus,
  ProposedEntry,
  QuarantineStatus,
  RaftEvent,
  RaftStatus,
  ReadState,
  Ready,
  Refusal,
  RoleChangeReason,
  StepResult,
} from './ready.ts'
export type {
  Configuration,
  EntryId,
  EntryKind,
  EntryMeta,
  HardState,
  Health,
  LoggedConfiguration,
  LogIndex,
  Millis,
  NodeId,
  Role,
  Term,
  TermRun,
} from './types.ts'
