/**
 * One run of a case: the setup, then the commands one after the other, and the lines that they make.
 *
 * Used by `scenario.test.ts`. The group exists from the first command on that is no setup.
 */
import type { Input, NodeId, RaftConfig, StepResult } from '../../raft/index.ts'
import { defaultRaftConfig } from '../../raft/index.ts'
import { entriesOf } from '../raft/support.ts'
import { commandOf, type Play, quietly, quietOnes, speaks } from './commands.ts'
import { expectThat } from './expectations.ts'
import { resultText } from './notation.ts'
import { parseNumber, parseOptions, parseTerms } from './words.ts'
import { World } from './world.ts'
import type { NodeSetup } from './world-node.ts'

export class Session implements Play {
  #voters: readonly NodeId[] = []
  #learners: readonly NodeId[] = []
  #spares: readonly NodeId[] = []
  readonly #setups = new Map<NodeId, NodeSetup>()
  readonly #config: Record<string, number> = {}
  #world: World | null = null
  /** What the last command was answered. */
  lastResult: StepResult | null = null

  /** The group; it starts now if it has not yet. */
  get world(): World {
    if (this.#world !== null) return this.#world
    if (this.#voters.length === 0) throw new Error('a case begins with: nodes n1 n2 n3')
    const nodes = [...this.#voters, ...this.#learners, ...this.#spares].map(
      (id) => this.#setups.get(id) ?? setupOf(id, []),
    )
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
    if (!['nodes', 'learners', 'spares', 'node', 'config'].includes(name)) return false
    if (this.#world !== null) throw new Error(`${name} must come before the first command`)
    if (name === 'nodes') this.#voters = words
    else if (name === 'learners') this.#learners = words
    else if (name === 'spares') this.#spares = words
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
  const options = parseOptions(words, ['log', 'term', 'vote', 'commit', 'applied', 'first', 'random', 'rotten'])
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
    isRotten: options.has('rotten'),
  }
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
