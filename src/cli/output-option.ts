/** `-o, --output`, the same for every command that prints data, and what it comes to before commander has read it. */
import { type Command, Option } from 'commander'
import type { OutputFormat } from './output.ts'

export interface OutputFlags {
  readonly output: OutputFormat
}

export function withOutput(command: Command, description = 'table or json'): Command {
  return (
    command
      .addOption(new Option('-o, --output <format>', description).choices(['table', 'json']).default('table'))
      // Another word for it, not shown.
      .addOption(new Option('--json').implies({ output: 'json' }).hideHelp())
  )
}

/** What was asked for, when a mistake elsewhere on the line ended its reading. */
export function outputOf(argv: readonly string[]): OutputFormat {
  const isJson = (word: string, index: number): boolean =>
    /^(--json|-ojson|--output=json)$/.test(word) ||
    ((word === '-o' || word === '--output') && argv[index + 1] === 'json')
  return argv.some(isJson) ? 'json' : 'table'
}
