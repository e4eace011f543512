/**
 * The commands of a case, each a few lines on top of `world.ts`; `README.md` lists them for the reader.
 *
 * Used by `scenario.test.ts`: one `Session` per case, `run` per command. The group exists from the first command on
 * that is no setup.
 */
import type { Input, NodeId, PeerMessage, RaftConfig, StepResult } from '../../raft/index.ts'
import { defaultRaftConfig } from '../../raft/index.ts'
import { entriesOf } from '../raft/support.ts'
import { expectThat } from './expectations.ts'
import { progressText, resultText } from './notation.ts'
import { everything, type Pattern } from './wire.ts'
import { parseForgery, parseLink, parseMillis, parseNumber, parseOptions, parseTerms } from './words.ts'
import { type NodeSetup, World } from './world.ts'

type Run = (session: Session, words: readonly string[]) => void

export class Session {
  #voters: readonly NodeId[] = []
  #learners: readonly NodeId[] = []
  readonly #setups = new Map<NodeId, NodeSetup>()
  readonly #config: Record<string, number> = {}
  #world: World | null = null
  /** What the last command was answered. */
  lastResult: StepResult | null = null

  /** The group; it starts now if it has not yet. */
  get world(): World {
    if (this.#world !== null) return this.#world
    if (this.#voters.length === 0) throw new Error('a case begins with: nodes n1 n2 n3')
    const nodes = [...this.#voters, ...this.#learners].map((id) => this.#setups.get(id) ?? setupOf(id, []))
    this.#world = new World({ voters: this.#voters, learners: this.#learners, nodes, config: this.#config })
    this.#world.check()
    return this.#world
  }

  /** Runs one command and gives the lines of its transcript. */
  run(words: readonly string[]): readonly string[] {
    const [name = '', ...rest] = words
    if (this.#setUp(name, rest)) return []
    const { world } = this
    world.lines = []
    if (name === 'expect') {
      expectThat(world, rest, this.lastResult)
      return []
    }
    const isQuiet = name === 'quietly' || quietOnes.has(name)
    if (isQuiet) quietly(this, name === 'quietly' ? rest : words)
    else commandOf(name)(this, rest)
    world.check()
    if (world.lines.length > 0 || !speaks.has(name)) return counted(world.lines)
    return isQuiet ? ['no status changes'] : ['nothing happens']
  }

  /** Feeds inputs, all before the first Ready, and notes what the last was answered. */
  step(id: string | undefined, ...inputs: readonly Input[]): void {
    const node = this.world.node(id as NodeId)
    this.lastResult = this.world.stepTogether(node.id, inputs)
    const line = this.lastResult === null ? null : resultText(this.lastResult)
    // The answer comes before what it leads to.
    if (line === null) return
    const before = this.world.lines.splice(0)
    this.world.say(node.id, line)
    this.world.lines.push(...before)
  }

  #setUp(name: string, words: readonly string[]): boolean {
    if (!['nodes', 'learners', 'node', 'config'].includes(name)) return false
    if (this.#world !== null) throw new Error(`${name} must come before the first command`)
    if (name === 'nodes') this.#voters = words
    else if (name === 'learners') this.#learners = words
    else if (name === 'node') this.#setups.set(words[0] as NodeId, setupOf(words[0] as NodeId, words.slice(1)))
    else this.#configure(words[0] as keyof RaftConfig, parseNumber(words[1]))
    return true
  }

  #configure(key: keyof RaftConfig, value: number): void {
    if (!(key in defaultRaftConfig)) throw new Error(`not a setting: ${key}`)
    this.#config[key] = value
  }
}

function setupOf(id: NodeId, words: readonly string[]): NodeSetup {
  const options = parseOptions(words, ['log', 'term', 'vote', 'commit', 'applied', 'first', 'random'])
  const number = (name: string, otherwise: number) =>
    options.has(name) ? parseNumber(options.get(name)?.[0]) : otherwise
  const terms = parseTerms(options.get('log') ?? [])
  const firstIndex = number('first', 1)
  const commit = number('commit', firstIndex - 1)
  return {
    id,
    entries: entriesOf(1, terms),
    hardState: { term: number('term', terms.at(-1) ?? 0), vote: options.get('vote')?.[0] ?? null, commit },
    firstIndex,
    applied: number('applied', commit),
    random: number('random', 0.5),
  }
}

/** These say so when nothing came of them. */
const speaks: ReadonlySet<string> = new Set(['tick', 'persist', 'settle', 'run', 'propose', 'campaign', 'peer_lost'])

/** Of these only the outcome is of interest. */
const quietOnes: ReadonlySet<string> = new Set(['settle', 'run', 'elect', 'lead'])

const commands: Readonly<Record<string, Run>> = {
  campaign: (session, [id]) => session.step(id, { kind: 'campaign' }),
  propose: (session, [id, count = '1', bytes = '10']) => {
    const entries = Array.from({ length: parseNumber(count) }, () => ({
      kind: 'normal' as const,
      bytes: parseNumber(bytes),
    }))
    session.step(id, { kind: 'propose', entries })
  },
  read: (session, [id, ...contexts]) =>
    session.step(id, ...contexts.map((context) => ({ kind: 'read_index' as const, context: parseNumber(context) }))),
  transfer: (session, [id, to]) => session.step(id, { kind: 'transfer', to: to as NodeId }),
  peer_lost: (session, [id, peer]) => session.step(id, { kind: 'peer_lost', peer: peer as NodeId }),
  unreachable: (session, [id, peer]) => session.step(id, { kind: 'unreachable', peer: peer as NodeId }),
  storage_failed: (session, [id]) => session.step(id, { kind: 'storage_failed' }),
  compact: compact,
  tick: (session, words) => tick(session, words, (id, ms) => session.world.tick(id, ms)),
  pause: pause,
  resume: (session, [id]) => {
    session.world.node(id as NodeId).isPaused = false
    session.world.wire.release({ ...everything, to: id as NodeId })
  },
  run: ({ world }, [ms]) => world.run(parseMillis(ms)),
  settle: ({ world }) => world.settle(),
  elect: elect,
  lead: lead,
  deliver: (session, words) => {
    for (const message of take(session, words)) session.lastResult = deliver(session, message)
  },
  drop: (session, words) => void take(session, words),
  duplicate: ({ world }, [link, kind]) => world.wire.duplicate(parseLink(link, kind)),
  hold: ({ world }, [link, kind]) => world.wire.hold(parseLink(link, kind)),
  release: ({ world }, [link, kind]) => world.wire.release(parseLink(link, kind)),
  cut: ({ world }, ids) => world.wire.cut(ids as NodeId[]),
  heal: ({ world }) => world.wire.heal(),
  inject: (session, words) => {
    session.lastResult = deliver(session, parseForgery(words))
  },
  disk: ({ world }, [id, speed]) => {
    if (speed !== 'slow' && speed !== 'fast') throw new Error('a disk is slow or fast')
    world.node(id as NodeId).isDiskSlow = speed === 'slow'
    if (speed === 'fast') world.persist(id as NodeId)
  },
  persist: ({ world }, [id, count]) =>
    world.persist(id as NodeId, count === undefined ? undefined : parseNumber(count)),
  crash: ({ world }, [id, keeping, count]) => world.crash(id as NodeId, keeping === 'keeping' ? parseNumber(count) : 0),
  restart: ({ world }, [id]) => {
    world.start(id as NodeId)
    world.say(id as NodeId, `is up: ${world.statusText(id as NodeId)}`)
  },
  status: ({ world }, ids) => {
    for (const id of ids.length === 0 ? world.ids : ids) world.lines.push(`${id} ${world.statusText(id as NodeId)}`)
  },
  progress: ({ world }, [id]) => {
    for (const line of progressText(world.status(id as NodeId))) world.lines.push(`${id} ${line}`)
  },
}

function commandOf(name: string): Run {
  const run = commands[name]
  if (run === undefined) throw new Error(`no such command: ${name}`)
  return run
}

/** A line that comes several times in a row is written once. */
function counted(lines: readonly string[]): string[] {
  const counts: { readonly line: string; count: number }[] = []
  for (const line of lines) {
    const last = counts.at(-1)
    if (last?.line === line) last.count++
    else counts.push({ line, count: 1 })
  }
  return counts.map(({ line, count }) => (count === 1 ? line : `${line} (${count} times)`))
}

/** Instead of every step only where it led: the status of each node for which it changed. */
function quietly(session: Session, [name = '', ...words]: readonly string[]): void {
  const { world } = session
  const run = commandOf(name)
  const before = new Map(world.ids.map((id) => [id, world.statusText(id)]))
  world.isQuiet = true
  try {
    run(session, words)
  } finally {
    world.isQuiet = false
  }
  // Whom it made the leader is all there is to say.
  for (const id of name === 'elect' ? [words[0] as NodeId] : world.ids) {
    const text = world.statusText(id)
    if (text !== before.get(id)) world.lines.push(`${id} ${text}`)
  }
}

function compact({ world }: Session, [id, first]: readonly string[]): void {
  const { disk, log } = world.node(id as NodeId)
  disk.firstIndex = parseNumber(first)
  const previousTerm = log[disk.firstIndex - 2]?.term ?? 0
  world.step(id as NodeId, { kind: 'compacted', first: disk.firstIndex, previousTerm })
}

function tick({ world }: Session, [id, ms]: readonly string[], run: (id: NodeId, ms: number | null) => void): void {
  for (const one of id === 'all' ? world.ids : [id as NodeId]) {
    const { now } = world.node(one)
    run(one, ms === undefined ? null : parseMillis(ms))
    if (ms === undefined) world.lines.unshift(`${one} waited ${world.node(one).now - now} ms`)
  }
}

/** With a duration: the process did not run for so long, and runs again. Without: until `resume`. */
function pause({ world }: Session, [id, ms]: readonly string[]): void {
  const node = world.node(id as NodeId)
  if (ms !== undefined) {
    node.now += parseMillis(ms)
    return
  }
  node.isPaused = true
  world.wire.hold({ ...everything, to: node.id })
}

/** Makes a node the leader of the next term, its no-op committed. */
function elect(session: Session, [id]: readonly string[]): void {
  session.step(id, { kind: 'campaign' })
  session.world.settle()
  if (!session.world.status(id as NodeId).termStarted) throw new Error(`${id} was not elected`)
}

const electoral: ReadonlySet<string> = new Set([
  'pre_vote_request',
  'pre_vote_response',
  'vote_request',
  'vote_response',
])

/** `lead n1 with n2`: elected by the votes of those alone; its no-op and first heartbeats are on the wire. */
function lead(session: Session, [id, , ...voters]: readonly string[]): void {
  const { world } = session
  session.step(id, { kind: 'campaign' })
  const party = new Set([id, ...voters])
  for (;;) {
    const message = world.wire.messages.find((one) => electoral.has(one.kind))
    if (message === undefined) break
    world.wire.take({ from: message.from, to: message.to, kind: message.kind }, 1)
    if (party.has(message.from) && party.has(message.to)) world.deliver(message)
  }
  if (world.status(id as NodeId).role !== 'leader') throw new Error(`${id} was not elected`)
}

/** The messages that a command names: all of a link or of one kind; a number at the end takes only so many. */
function take({ world }: Session, words: readonly string[]): readonly PeerMessage[] {
  const { pattern, countMax } = parseSelection(words)
  const messages = world.wire.take(pattern, countMax)
  if (messages.length === 0) throw new Error('there is no such message on the wire')
  return messages
}

function deliver({ world }: Session, message: PeerMessage): StepResult | null {
  const result = world.deliver(message)
  const line = result?.kind === 'refused' ? resultText(result) : null
  if (line !== null) world.say(message.to, line)
  return result
}

function parseSelection(words: readonly string[]): { readonly pattern: Pattern; readonly countMax: number } {
  const count = words.at(-1)
  const hasCount = count !== undefined && /^\d+$/.test(count)
  const [link, kind] = hasCount ? words.slice(0, -1) : words
  const pattern = link === undefined ? everything : parseLink(link, kind)
  return { pattern, countMax: hasCount ? Number(count) : Number.POSITIVE_INFINITY }
}
