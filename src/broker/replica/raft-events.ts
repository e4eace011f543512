/** Puts what the core reports into the node's event ring and its log. Called by the replica for every core event. */
import type { RaftEvent } from '../../../raft/index.ts'
import { unreachable } from '../../common/assert.ts'
import type { Logger } from '../../common/logger.ts'
import type { EventSink } from '../events.ts'

export function publishRaftEvent(event: RaftEvent, term: number, sink: EventSink, logger: Logger): void {
  switch (event.kind) {
    case 'role_changed': {
      const { from, to, leader, reason } = event
      sink.emit('role_changed', event.term, { from, to, leader, reason })
      logger.info('role changed', { from, to, term: event.term, leader, reason })
      return
    }
    case 'leader_changed':
      sink.emit('leader_changed', event.term, { leader: event.leader })
      return
    case 'leader_elected':
      sink.emit('leader_elected', event.term, { tookMs: Math.round(event.tookMs), votes: event.votes.join(' ') })
      return
    case 'term_started':
      sink.emit('term_started', event.term, { index: event.index })
      return
    case 'vote_cast':
      sink.emit('vote_cast', event.term, { candidate: event.candidate, refusal: event.refusal })
      return
    case 'stalled':
      sink.emit('stalled', term, { lateMs: Math.round(event.lateMs) })
      return
    case 'transfer_ended':
      sink.emit('transfer_ended', term, { to: event.to, outcome: event.outcome })
      return
    case 'quarantine_started':
    case 'quarantine_ended':
      sink.emit(event.kind, term, {})
      return
    case 'configuration_changed':
    case 'reads_dropped':
      return
    default:
      unreachable(event)
  }
}
