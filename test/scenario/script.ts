/**
 * The text of a case: prose, commands, and under each command what the group did (two spaces in front).
 *
 * Used by `scenario.test.ts`. Splits a file and puts it together again; what commands mean is in `commands.ts`.
 */

export type Item =
  /** Prose or an empty line: stays as it is. */
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'command'; readonly text: string; readonly words: readonly string[]; readonly line: number }

export interface Script {
  readonly title: string
  readonly items: readonly Item[]
}

/** Transcripts longer than this are not read by anybody. */
export const linesMax = 100

export function parseScript(text: string): Script {
  const lines = text.replace(/\n+$/, '').split('\n')
  const items: Item[] = []
  lines.forEach((line, i) => {
    if (line.startsWith('  ')) return
    if (line === '' || line.startsWith('#')) items.push({ kind: 'text', text: line })
    else items.push({ kind: 'command', text: line, words: line.split(/\s+/), line: i + 1 })
  })
  const title = lines[0]?.match(/^# (\S.*)$/)?.[1]
  if (title === undefined) throw new Error('the first line must be the title: # A sentence')
  const firstCommand = lines.findIndex((line) => line !== '' && !line.startsWith('#'))
  const why = lines.slice(1, firstCommand).filter((line) => /^# \S/.test(line))
  if (why.length === 0) throw new Error('between the title and the first command must be said why the case matters')
  if (!items.some((item) => item.kind === 'command' && item.words[0] === 'expect')) {
    throw new Error('a case needs at least one expect, so that it cannot be recorded into nonsense')
  }
  return { title, items }
}

/** The file as it should be: `run` gives the lines under each command. */
export function renderScript(script: Script, run: (command: Item & { kind: 'command' }) => readonly string[]): string {
  const lines: string[] = []
  for (const item of script.items) {
    lines.push(item.text)
    if (item.kind === 'command') for (const line of run(item)) lines.push(`  ${line}`)
  }
  return `${lines.join('\n')}\n`
}
