/**
 * The one check of a message from outside: after it, the steps trust what a message says.
 *
 * Used by `core.ts`. Refuses numbers that no healthy group can reach, so that one flipped bit on the way cannot push
 * a term to the end of its range and stop the group for good. Never changes state.
 */
import { unreachable } from './assert.ts'
import { isWellFormed } from './membership.ts'
import type { Append, PeerMessage } from './messages.ts'
import type { Replica } from './replica.ts'

/** Terms and indexes beyond this are refused: half of what a double counts exactly. */
export const positionMax: number = (Number.MAX_SAFE_INTEGER - 1) / 2
/** A message whose term is further ahead than this is refused. */
export const termJumpMax: number = 2 ** 31

/**
 * Leaders and candidates are heard whether the own configuration names them or not: it may be older than theirs (thesis
 * 4.1; the driver knows who speaks). Answers only count from those who were asked.
 */
export function isHeard(replica: Replica, message: PeerMessage): boolean {
  if (message.to !== replica.id || message.from === replica.id) return false
  switch (message.kind) {
    case 'pre_vote_response':
    case 'vote_response':
    case 'heartbeat_response':
    case 'append_response':
      return replica.otherMembers.includes(message.from)
    default:
      return true
  }
}

export function isPlausible(replica: Replica, message: PeerMessage): boolean {
  if (!isPosition(message.term) || message.term - replica.term > termJumpMax) return false
  switch (message.kind) {
    case 'pre_vote_request':
    case 'vote_request':
      return isPosition(message.lastIndex) && isPosition(message.lastTerm) && message.lastTerm <= message.term
    case 'heartbeat':
      return [message.commit, message.round, message.lastIndex, message.session].every(isPosition)
    case 'heartbeat_response':
      return isPosition(message.round) && isPosition(message.session)
    case 'append':
      return isAppendPlausible(message)
    case 'append_response': {
      const { matchIndex, rejected } = message
      if (rejected === null) return isPosition(matchIndex)
      return isPosition(rejected.rejectedIndex) && isPosition(rejected.hintIndex) && isPosition(rejected.hintTerm)
    }
    case 'catch_up':
      return isPosition(message.firstIndex) && message.firstIndex > 0
    case 'read_request':
      return isPosition(message.context)
    case 'read_response':
      return isPosition(message.context) && (message.index === null || isPosition(message.index))
    case 'pre_vote_response':
    case 'vote_response':
    case 'timeout_now':
    case 'stepped_down':
      return true
    default:
      return unreachable(message)
  }
}

function isAppendPlausible(append: Append): boolean {
  if (!isPosition(append.prevIndex) || !isPosition(append.prevTerm) || !isPosition(append.commit)) return false
  let { prevIndex: index, prevTerm: term } = append
  for (const entry of append.entries) {
    if (entry.index !== ++index || !isPosition(entry.index)) return false
    if ((entry.kind === 'configuration') !== (entry.configuration !== undefined)) return false
    if (entry.configuration !== undefined && !isWellFormed(entry.configuration)) return false
    if (!isPosition(entry.term) || entry.term < term || !isPosition(entry.bytes)) return false
    term = entry.term
  }
  return term <= append.term
}

function isPosition(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0 && value <= positionMax
}
