/**
 * A message from a peer: checked, its term settled (Raft 5.1), handed to the step of the role.
 *
 * Used by `core.ts`. Votes have rules of their own about terms: a pre-vote changes none, and a live leader may forbid
 * a vote, so those go past the general rule.
 */
import { unreachable } from './assert.ts'
import { onPreVoteResponse, onVoteResponse } from './candidate.ts'
import { answerOldLeader, onAppend, onCatchUp, onHeartbeat, onSteppedDown, onTimeoutNow } from './follower.ts'
import { isHeard, isPlausible } from './gateway.ts'
import { onAppendResponse, onHeartbeatResponse } from './leader.ts'
import type { PeerMessage } from './messages.ts'
import { onReadRequest, onReadResponse } from './reads.ts'
import type { Refusal } from './ready.ts'
import type { Replica } from './replica.ts'
import { becomeFollower } from './roles.ts'
import { answerPreVote, answerVote } from './voter.ts'

type Electoral = Extract<PeerMessage, { kind: 'pre_vote_request' | 'vote_request' | 'pre_vote_response' }>

/** Ignores what is out of date or implausible. Refuses answers of nodes that are not in the configuration. */
export function receive(replica: Replica, message: PeerMessage): Refusal | null {
  if (!isHeard(replica, message)) return { kind: 'unknown_peer', peer: message.from }
  if (!isPlausible(replica, message)) return null
  replica.lostPeers.delete(message.from)
  if (message.kind === 'pre_vote_request') answerPreVote(replica, message)
  else if (message.kind === 'vote_request') answerVote(replica, message)
  else if (message.kind === 'pre_vote_response') onPreVoteResponse(replica, message)
  else if (settleTerm(replica, message)) handle(replica, message)
  return null
}

/** Takes over a higher term, turns a lower one away. True when the message is of the own term now. */
function settleTerm(replica: Replica, message: PeerMessage): boolean {
  const { kind } = message
  const isFromLeader = kind === 'append' || kind === 'heartbeat' || kind === 'catch_up'
  if (message.term < replica.term) {
    if (message.kind === 'append' || message.kind === 'heartbeat') answerOldLeader(replica, message)
    return false
  }
  if (message.term > replica.term) {
    const isTransfer = replica.leadership?.transfer?.to === message.from
    const reason = isTransfer ? 'transferred' : 'higher_term'
    becomeFollower(replica, message.term, isFromLeader ? message.from : null, reason)
  }
  return true
}

function handle(replica: Replica, message: Exclude<PeerMessage, Electoral>): void {
  switch (message.kind) {
    case 'append':
      onAppend(replica, message)
      break
    case 'heartbeat':
      onHeartbeat(replica, message)
      break
    case 'timeout_now':
      onTimeoutNow(replica, message)
      break
    case 'stepped_down':
      onSteppedDown(replica, message)
      break
    case 'vote_response':
      onVoteResponse(replica, message)
      break
    case 'append_response':
      if (replica.role === 'leader') onAppendResponse(replica, message)
      break
    case 'catch_up':
      onCatchUp(replica, message)
      break
    case 'read_request':
      onReadRequest(replica, message)
      break
    case 'read_response':
      onReadResponse(replica, message)
      break
    case 'heartbeat_response':
      if (replica.role === 'leader') onHeartbeatResponse(replica, message)
      break
    default:
      unreachable(message)
  }
}
