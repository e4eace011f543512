/**
 * The commands of a case, each a few lines on top of `world.ts`; `README.md` lists them for the reader.
 *
 * Used by `play.ts`, which hands itself over as `Play`. A command that names something that is not there throws.
 */
import type { Input, NodeId, PeerMessage, StepResult } from '../../raft/index.ts'
import { enterJoint, leaveJoint } from '../../raft/index.ts'
import { progressText, resultText } from './notation.ts'
import { run, settle, tick } from './pace.ts'
import { everything, type Pattern } from './wire.ts'
import { parseForgery, parseHealth, parseLink, parseMillis, parseNumber, parseOptions } from './words.ts'
import type { World } from './world.ts'

/** What a command works on. */
export interface Play {
  readonly world: World
  /** What the last input was answered. */
  lastResult: StepResult | null
  /** Feeds inputs, all before the first Ready, and notes what the last was answered. */
  step(id: string | undefined, ...inputs: readonly Input[]): void
}

type Run = (play: Play, words: readonly string[]) => void

/** These say so when nothing came of them. */
export const speaks: ReadonlySet<string> = new Set([
  'tick',
  'persist',
  'settle',
  'run',
  'propose',
  'campaign',
  'peer_lost',
])

/** Of these only the outcome is of interest. */
export const quietOnes: ReadonlySet<string> = new Set(['settle', 'run', 'elect', 'lead'])

const commands: Readonly<Record<string, Run>> = {
  campaign: (play, [id]) => play.step(id, { kind: 'campaign' }),
  propose: (play, [id, count = '1', bytes = '10']) => {
    const entries = Array.from({ length: parseNumber(count) }, () => ({
      kind: 'normal' as const,
      bytes: parseNumber(bytes),
    }))
    play.step(id, { kind: 'propose', entries })
  },
  read: (play, [id, ...contexts]) =>
    play.step(id, ...contexts.map((context) => ({ kind: 'read_index' as const, context: parseNumber(context) }))),
  transfer: (play, [id, to]) => play.step(id, { kind: 'transfer', to: to as NodeId }),
  peer_lost: (play, [id, peer]) => play.step(id, { kind: 'peer_lost', peer: peer as NodeId }),
  unreachable: (play, [id, peer]) => play.step(id, { kind: 'unreachable', peer: peer as NodeId }),
  storage_failed: (play, [id]) => play.step(id, { kind: 'storage_failed' }),
  compact: compact,
  change: change,
  health: (play, [id, health]) => play.step(id, { kind: 'health', health: parseHealth(health) }),
  quarantine: (play, [id]) => play.step(id, { kind: 'quarantine' }),
  healed: (play, [id]) => play.step(id, { kind: 'healed' }),
  lose: ({ world }, [id, , first]) => world.lose(id as NodeId, parseNumber(first)),
  copy: ({ world }, [id, , from]) => world.copy(id as NodeId, from as NodeId),
  tick: tickNodes,
  pause: pause,
  resume: (play, [id]) => {
    play.world.node(id as NodeId).isPaused = false
    play.world.wire.release({ ...everything, to: id as NodeId })
  },
  run: ({ world }, [ms]) => run(world, parseMillis(ms)),
  settle: ({ world }) => settle(world),
  elect: elect,
  lead: lead,
  deliver: (play, words) => {
    for (const message of take(play, words)) play.lastResult = deliver(play, message)
  },
  drop: (play, words) => void take(play, words),
  duplicate: ({ world }, [link, kind]) => world.wire.duplicate(parseLink(link, kind)),
  hold: ({ world }, [link, kind]) => world.wire.hold(parseLink(link, kind)),
  release: ({ world }, [link, kind]) => world.wire.release(parseLink(link, kind)),
  cut: ({ world }, ids) => world.wire.cut(ids as NodeId[]),
  heal: ({ world }) => world.wire.heal(),
  inject: (play, words) => {
    play.lastResult = deliver(play, parseForgery(words))
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

/** Throws for a name that is no command. */
export function commandOf(name: string): Run {
  const run = commands[name]
  if (run === undefined) throw new Error(`no such command: ${name}`)
  return run
}

/** Instead of every step only where it led: the status of each node for which it changed. */
export function quietly(play: Play, [name = '', ...words]: readonly string[]): void {
  const { world } = play
  const run = commandOf(name)
  const before = new Map(world.ids.map((id) => [id, world.statusText(id)]))
  world.isQuiet = true
  try {
    run(play, words)
  } finally {
    world.isQuiet = false
  }
  // Whom it made the leader is all there is to say.
  for (const id of name === 'elect' ? [words[0] as NodeId] : world.ids) {
    const text = world.statusText(id)
    if (text !== before.get(id)) world.lines.push(`${id} ${text}`)
  }
}

function compact({ world }: Play, [id, first]: readonly string[]): void {
  const { disk, log } = world.node(id as NodeId)
  disk.firstIndex = parseNumber(first)
  const previousTerm = log[disk.firstIndex - 2]?.term ?? 0
  world.step(id as NodeId, { kind: 'compacted', first: disk.firstIndex, previousTerm })
}

function tickNodes({ world }: Play, [id, ms]: readonly string[]): void {
  for (const one of id === 'all' ? world.ids : [id as NodeId]) {
    const { now } = world.node(one)
    tick(world, one, ms === undefined ? null : parseMillis(ms))
    if (ms === undefined) world.lines.unshift(`${one} waited ${world.node(one).now - now} ms`)
  }
}

/**
 * `change n1 voters n2 n3 n4 learners n5 priorities n2=1` goes by a joint configuration where the voters change,
 * `change n1 leave` ends it, `change n1 directly voters …` does not care what is legal.
 */
function change(play: Play, [id, ...words]: readonly string[]): void {
  const options = parseOptions(words, ['leave', 'directly', 'voters', 'learners', 'priorities'])
  const { configuration: current } = play.world.status(id as NodeId)
  const voters = options.get('voters') ?? current.voters
  const priorities = options.get('priorities')?.map((word): [NodeId, number] => {
    const [name = '', number] = word.split('=')
    return [name, parseNumber(number)]
  })
  const target = { voters, learners: options.get('learners') ?? current.learners }
  const isSame = [...voters].sort().join() === [...current.voters].sort().join()
  const simple = { ...current, ...target, outgoing: [], ...(priorities === undefined ? {} : { priorities }) }
  const isSimple = isSame || options.has('directly')
  const next = options.has('leave') ? leaveJoint(current) : isSimple ? simple : enterJoint(current, target)
  play.step(id, { kind: 'propose', entries: [{ kind: 'configuration', bytes: 10, configuration: next }] })
}

/** With a duration: the process did not run for so long, and runs again. Without: until `resume`. */
function pause({ world }: Play, [id, ms]: readonly string[]): void {
  const node = world.node(id as NodeId)
  if (ms !== undefined) {
    node.now += parseMillis(ms)
    return
  }
  node.isPaused = true
  world.wire.hold({ ...everything, to: node.id })
}

/** Makes a node the leader of the next term, its no-op committed. */
function elect(play: Play, [id]: readonly string[]): void {
  play.step(id, { kind: 'campaign' })
  settle(play.world)
  if (!play.world.status(id as NodeId).termStarted) throw new Error(`${id} was not elected`)
}

const electoral: ReadonlySet<string> = new Set([
  'pre_vote_request',
  'pre_vote_response',
  'vote_request',
  'vote_response',
])

/** `lead n1 with n2`: elected by the votes of those alone; its no-op and first heartbeats are on the wire. */
function lead(play: Play, [id, , ...voters]: readonly string[]): void {
  const { world } = play
  play.step(id, { kind: 'campaign' })
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
function take({ world }: Play, words: readonly string[]): readonly PeerMessage[] {
  const { pattern, countMax } = parseSelection(words)
  const messages = world.wire.take(pattern, countMax)
  if (messages.length === 0) throw new Error('there is no such message on the wire')
  return messages
}

function deliver({ world }: Play, message: PeerMessage): StepResult | null {
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
