/**
 * How the transcripts say things: entries, messages, events, duties, status. `README.md` explains it to the reader.
 *
 * Used by `world.ts` and `expectations.ts`. Pure. A kind of message or event that is not known here is written out
 * field by field, so that a new one shows up in transcripts before anybody teaches this file.
 */
import type {
  Configuration,
  EntryMeta,
  LogIndex,
  NodeId,
  PeerMessage,
  RaftEvent,
  RaftStatus,
  Ready,
  StepResult,
  Term,
} from '../../raft/index.ts'

/** `4@2`: entry 4, of term 2. `0`: before the first. */
export function entryName(index: LogIndex, term: Term): string {
  return index === 0 ? '0' : `${index}@${term}`
}

export function entriesText(entries: readonly EntryMeta[]): string {
  const parts: string[] = []
  for (let i = 0; i < entries.length; ) {
    const first = entries[i] as EntryMeta
    let end = i + 1
    const isSame = (entry: EntryMeta | undefined) => entry?.term === first.term && entry.kind === 'normal'
    if (first.kind === 'normal') while (isSame(entries[end])) end++
    const last = first.index + end - i - 1
    const members = first.configuration === undefined ? '' : ` ${configurationText(first.configuration)}`
    parts.push(`${kindPrefix(first)}${rangeText(first.index, last)}@${first.term}${members}`)
    i = end
  }
  return parts.length === 0 ? 'nothing' : parts.join(', ')
}

/** `{n1 n2 n4 | outgoing n1 n2 n3 | learners n5}`. */
export function configurationText({ voters, outgoing, learners, priorities = [] }: Configuration): string {
  const parts = [voters.join(' ')]
  if (outgoing.length > 0) parts.push(`outgoing ${outgoing.join(' ')}`)
  if (learners.length > 0) parts.push(`learners ${learners.join(' ')}`)
  if (priorities.length > 0) parts.push(`priorities ${priorities.map((pair) => pair.join('=')).join(' ')}`)
  return `{${parts.join(' | ')}}`
}

/** Only indexes and terms. */
export function termsText(log: readonly EntryMeta[]): string {
  if (log.length === 0) return 'empty'
  return entriesText(log.map(({ index, term, bytes }) => ({ index, term, bytes, kind: 'normal' })))
}

export function messageText(message: PeerMessage): string {
  const head = `${message.kind} t${message.term}`
  switch (message.kind) {
    case 'pre_vote_request':
    case 'vote_request': {
      const ordered = message.kind === 'vote_request' && message.transfer ? ', ordered' : ''
      return `${head}, log ends ${entryName(message.lastIndex, message.lastTerm)}${ordered}`
    }
    case 'pre_vote_response':
    case 'vote_response':
      return `${head} ${message.refusal === null ? 'granted' : `refused: ${message.refusal}`}`
    case 'heartbeat':
      return `${head} commit ${message.commit}${message.round === 0 ? '' : ` round ${message.round}`}`
    case 'heartbeat_response':
      return `${head}${message.round === 0 ? '' : ` round ${message.round}`}${message.canLead ? '' : ', cannot lead'}`
    case 'append': {
      const previous = entryName(message.prevIndex, message.prevTerm)
      return `${head} after ${previous}: ${entriesText(message.entries)}; commit ${message.commit}`
    }
    case 'append_response': {
      const { rejected, matchIndex } = message
      if (rejected === null) return `${head} match ${matchIndex}`
      const hint = entryName(rejected.hintIndex, rejected.hintTerm)
      return `${head} refused at ${rejected.rejectedIndex}, try ${hint}${rejected.hasLost ? ', may have lost more' : ''}`
    }
    case 'catch_up':
      return `${head}, log begins at ${message.firstIndex}`
    case 'read_request':
      return head
    case 'read_response':
      return `${head} ${message.index === null ? 'refused' : `at ${message.index}`}`
    case 'timeout_now':
    case 'stepped_down':
      return head
    default:
      return fieldsText(message)
  }
}

export function eventText(id: NodeId, event: RaftEvent): string | null {
  switch (event.kind) {
    case 'role_changed':
      return `${event.from} -> ${event.to} in term ${event.term} (${event.reason})`
    case 'leader_changed':
      if (event.leader === id) return null
      return event.leader === null ? 'knows no leader' : `follows ${event.leader} in term ${event.term}`
    case 'leader_elected':
      return `elected in term ${event.term} by ${event.votes.join(' ')}`
    case 'term_started':
      return `term ${event.term} started: its no-op ${event.index} is committed`
    case 'vote_cast':
      return event.refusal === null
        ? `votes for ${event.candidate} in term ${event.term}`
        : `no vote for ${event.candidate} in term ${event.term}: ${event.refusal}`
    case 'stalled':
      return `stalled: ${event.lateMs} ms late`
    case 'quarantine_started':
      return 'quarantined: no vote, no candidacy'
    case 'quarantine_ended':
      return 'quarantine ended: votes again'
    case 'transfer_ended':
      return `transfer to ${event.to} ended: ${event.outcome}`
    case 'reads_dropped':
      return `drops reads ${event.contexts.join(' ')}`
    case 'configuration_changed': {
      const state = event.isCommitted ? 'is committed' : 'is in force'
      return `configuration ${event.index} ${state}: ${configurationText(event.configuration)}`
    }
    default:
      return fieldsText(event)
  }
}

/** The lines for what a Ready reports. A change of role implies that the leader of before is known no more. */
export function eventLines(id: NodeId, events: readonly RaftEvent[]): string[] {
  const isRoleChanged = events.some((event) => event.kind === 'role_changed')
  return events
    .filter((event) => !(isRoleChanged && event.kind === 'leader_changed' && event.leader === null))
    .map((event) => eventText(id, event))
    .filter((line): line is string => line !== null)
}

/** What a Ready must write, without the commit, which is written lazily. */
export function writeText(ready: Ready, before: { readonly term: Term; readonly vote: NodeId | null }): string | null {
  if (!ready.mustSync) return null
  const parts: string[] = []
  const { hardState } = ready
  if (hardState !== undefined && (hardState.term !== before.term || hardState.vote !== before.vote)) {
    parts.push(`term ${hardState.term}${hardState.vote === null ? '' : `, vote ${hardState.vote}`}`)
  }
  if (ready.truncateFrom !== undefined) parts.push(`cut from ${ready.truncateFrom}`)
  if (ready.append.length > 0) parts.push(`append ${entriesText(ready.append)}`)
  return parts.join('; ')
}

export function rangeText(from: LogIndex, to: LogIndex): string {
  return from === to ? `${from}` : `${from}..${to}`
}

export function statusText(status: RaftStatus, log: readonly EntryMeta[]): string {
  const { role, term, leader, lastIndex, stableIndex, commit, applied, vote } = status
  const who = role === 'follower' && leader !== null ? `follower of ${leader}` : role
  const parts = [`${who} in term ${term}`]
  if (role !== 'leader' && vote !== null) parts.push(`vote ${vote}`)
  parts.push(`log ${termsText(log.slice(status.firstIndex - 1))}`)
  if (stableIndex !== lastIndex) parts.push(`durable ${stableIndex}`)
  parts.push(`commit ${commit}`)
  if (applied !== commit) parts.push(`applied ${applied}`)
  if (status.configurationIndex > 0) {
    const state = status.configurationCommitted ? '' : ', not committed'
    parts.push(`members of ${status.configurationIndex}${state} ${configurationText(status.configuration)}`)
  }
  if (status.quarantine !== null) parts.push('quarantined')
  return parts.join(', ')
}

export function progressText(status: RaftStatus): string[] {
  return status.peers
    .filter(({ id }) => id !== status.id)
    .map((peer) => {
      const flight = peer.inflightMessages === 0 ? '' : `, ${peer.inflightMessages} in flight`
      return `sees ${peer.id}: ${peer.state}, match ${peer.match}, next ${peer.next}${flight}`
    })
}

/** Null for a plain success, which the transcript does not mention. */
export function resultText(result: StepResult): string | null {
  if (result.kind === 'done') return null
  if (result.kind === 'accepted') return `accepts ${entryName(result.first, result.term)}`
  const { kind, ...facts } = result.refusal
  const details = Object.entries(facts).map(([key, value]) => `${key} ${value ?? 'unknown'}`)
  return `refuses: ${kind}${details.length === 0 ? '' : ` (${details.join(', ')})`}`
}

function kindPrefix(entry: EntryMeta): string {
  if (entry.kind === 'normal') return ''
  return entry.kind === 'noop' ? 'no-op ' : 'configuration '
}

function fieldsText(value: object): string {
  const fields = Object.entries(value).filter(([key]) => !['kind', 'from', 'to'].includes(key))
  const texts = fields.map(([key, field]) => `${key} ${typeof field === 'object' ? JSON.stringify(field) : field}`)
  return [(value as { kind: string }).kind, ...texts].join(' ')
}
