/** The form of what commands print: asked for in one way by all of them. */
import { Command } from 'commander'
import { expect, test } from 'vitest'
import { registerCluster } from '../../../src/cli/command/cluster.ts'
import { registerDebug } from '../../../src/cli/command/debug.ts'
import { registerFastTry } from '../../../src/cli/command/fast-try.ts'
import { registerRaft } from '../../../src/cli/command/raft.ts'
import { registerTopic } from '../../../src/cli/command/topic.ts'
import { outputOf, withOutput } from '../../../src/cli/output-option.ts'

/** Talk only on stdout, or nothing at all. */
const silent = ['broker', 'namesrv', 'start', 'kill', 'restart', 'add-node', 'stop']

function leavesOf(command: Command): readonly Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leavesOf)
}

test('every command that prints data takes -o, --output; none shows another option for it', () => {
  const program = new Command()
  for (const register of [registerCluster, registerDebug, registerFastTry, registerRaft, registerTopic]) {
    register(program)
  }
  const leaves = leavesOf(program)
  expect(leaves.length).toBeGreaterThan(15)
  for (const leaf of leaves.filter((each) => !silent.includes(each.name()))) {
    const help = leaf.helpInformation()
    expect(help, leaf.name()).toMatch(/-o, --output <format> .*"table", "json"/s)
    expect(help, leaf.name()).not.toContain('--json')
  }
})

test('json is asked for by -o json, --output=json or --json, also when commander never came to read it', () => {
  for (const words of [['-o', 'json'], ['-ojson'], ['--output', 'json'], ['--output=json'], ['--json']]) {
    const command = withOutput(new Command()).parse(words, { from: 'user' })
    expect(command.opts(), words.join(' ')).toMatchObject({ output: 'json' })
    expect(outputOf(words), words.join(' ')).toBe('json')
  }
  for (const words of [[], ['-o', 'table'], ['--output=table']]) {
    expect(withOutput(new Command()).parse(words, { from: 'user' }).opts()).toMatchObject({ output: 'table' })
    expect(outputOf([...words, 'json']), words.join(' ')).toBe('table')
  }
})
