/**
 * What `expect` can say. Checked whatever the transcript holds, so that no recording can turn a case into nonsense.
 *
 * Used by `commands.ts`. Changes nothing; throws an Error that names what was expected and what is.
 */
import type { NodeId, RaftStatus, StepResult } from '../../raft/index.ts'
import { resultText, termsText } from './notation.ts'
import { parseLink, parseTerms } from './words.ts'
import type { World } from './world.ts'

export function expectThat(world: World, words: readonly string[], lastResult: StepResult | null): void {
  const [first = ''] = words
  if (first === 'refused' || first === 'accepted') expectResult(words, lastResult)
  else if (first === 'equal') expectEqualLogs(world, words.slice(2))
  else if (first === 'no' || first.includes('->')) expectOnWire(world, words)
  else expectNode(world, first, words.slice(1))
}

/** `expect refused full`, `expect accepted`: what the last command was answered. */
function expectResult([kind, reason]: readonly string[], result: StepResult | null): void {
  const isKind = result?.kind === kind
  const isReason = reason === undefined || (result?.kind === 'refused' && result.refusal.kind === reason)
  const what = result === null ? 'no answer' : (resultText(result) ?? 'done')
  check(isKind && isReason, `the last command got: ${what}`)
}

/** `expect equal logs n1 n2`. */
function expectEqualLogs(world: World, ids: readonly string[]): void {
  const texts = ids.map((id) => termsText(world.log(id)))
  check(new Set(texts).size === 1, `the logs are ${ids.map((id, i) => `${id}: ${texts[i]}`).join(' | ')}`)
}

/** `expect n1->n2 append t2`, `expect no n2->n1 vote_response`: what is on its way, by kind and any part of its text. */
function expectOnWire({ wire }: World, words: readonly string[]): void {
  const isAbsent = words[0] === 'no'
  const [link, kind, ...text] = isAbsent ? words.slice(1) : words
  const isThere = wire.carries(parseLink(link, kind), text.join(' '))
  check(isThere !== isAbsent, isThere ? 'there is one' : 'there is none')
}

/** Clauses separated by commas, for example `expect n1 leader, term 2, commit 3`. */
function expectNode(world: World, id: NodeId, words: readonly string[]): void {
  for (const clause of words.join(' ').split(/,\s*/)) {
    const [name = '', ...values] = clause.split(' ')
    const test = nodeClauses[name]
    if (test === undefined) throw new Error(`not known: expect ${id} ${name}`)
    const problem = test(world, id, values)
    if (problem !== null) throw new Error(`expected ${id} ${clause}, but ${problem}`)
  }
}

/** Null when it is so, else what is instead. */
type Clause = (world: World, id: NodeId, values: readonly string[]) => string | null

const role: (name: RaftStatus['role']) => Clause = (name) => (world, id) => differs(world.status(id).role, name)

function field(of: (status: RaftStatus) => unknown): Clause {
  return (world, id, values) => differs(String(of(world.status(id)) ?? 'none') || 'none', values.join(' '))
}

const nodeClauses: Readonly<Record<string, Clause>> = {
  leader: role('leader'),
  follower: role('follower'),
  pre_candidate: role('pre_candidate'),
  candidate: role('candidate'),
  term: field((status) => status.term),
  vote: field((status) => status.vote),
  follows: field((status) => (status.role === 'leader' ? null : status.leader)),
  commit: field((status) => status.commit),
  applied: field((status) => status.applied),
  durable: field((status) => status.stableIndex),
  last: field((status) => status.lastIndex),
  first: field((status) => status.firstIndex),
  term_started: field((status) => status.termStarted),
  unconfirmed: field((status) => status.unconfirmed),
  transferring: field((status) => status.transferringTo),
  voters: field(({ configuration }) => configuration.voters.join(' ')),
  outgoing: field(({ configuration }) => configuration.outgoing.join(' ')),
  learners: field(({ configuration }) => configuration.learners.join(' ')),
  change: field((status) => (status.configurationCommitted ? 'committed' : 'open')),
  quarantined: field((status) => status.quarantine !== null),
  log: (world, id, values) => {
    const terms = world.log(id).map((entry) => entry.term)
    return differs(terms.join(' '), parseTerms(values).join(' '))
  },
  down: (world, id) => (world.node(id).core === null ? null : 'it runs'),
  stopped: (world, id, values) => {
    const { stopped } = world.node(id)
    if (stopped === null) return 'it did not stop itself'
    return stopped.includes(values.join(' ')) ? null : `it stopped for ${stopped}`
  },
  said: (world, id, values) => (hasSaid(world, id, values) ? null : 'it never did'),
  never: (world, id, [said, ...values]) => {
    if (said !== 'said') throw new Error('write: never said …')
    return hasSaid(world, id, values) ? 'it did' : null
  },
  sees: (world, id, [peer, ...values]) => {
    const progress = world.status(id).peers.find((one) => one.id === peer)
    if (progress === undefined) return `it does not see ${peer}`
    const text = `${progress.state} match ${progress.match} next ${progress.next}`
    return text.includes(values.join(' ')) ? null : `it is ${text}`
  },
  due: (world, id, [value]) => {
    const { core, now } = world.node(id)
    const dueIn = core === null ? Number.POSITIVE_INFINITY : core.deadline() - now
    return differs(Number.isFinite(dueIn) ? `${dueIn}ms` : 'never', value)
  },
}

function hasSaid(world: World, id: NodeId, values: readonly string[]): boolean {
  return world.node(id).said.some((line) => line.includes(values.join(' ')))
}

function differs(actual: string, expected: string | undefined): string | null {
  return actual === expected ? null : `it is ${actual}`
}

function check(condition: boolean, problem: string): void {
  if (!condition) throw new Error(problem)
}
