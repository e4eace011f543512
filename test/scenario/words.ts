/**
 * The words that commands are made of: links, durations, numbers, logs, forged messages.
 *
 * Used by `commands.ts` and `expectations.ts`. Pure; throws an Error with the word that it does not understand.
 */
import type { EntryMeta, Health, PeerMessage } from '../../raft/index.ts'
import { entriesOf } from '../raft/support.ts'
import type { Pattern } from './wire.ts'

/** `n1->n2`, `*->n2`, `n1->*`. */
export function parseLink(word: string | undefined, kind: string | undefined): Pattern {
  const match = word?.match(/^(\w+|\*)->(\w+|\*)$/)
  if (!match) throw new Error(`not a link: ${word} (write n1->n2)`)
  return { from: match[1] as string, to: match[2] as string, kind: kind ?? null }
}

export function parseMillis(word: string | undefined): number {
  const match = word?.match(/^(\d+(?:\.\d+)?)ms$/)
  if (!match) throw new Error(`not a duration: ${word} (write 75ms)`)
  return Number(match[1])
}

export function parseNumber(word: string | undefined): number {
  const value = Number(word)
  if (word === undefined || Number.isNaN(value)) throw new Error(`not a number: ${word}`)
  return value
}

export function parseHealth(word: string | undefined): Health {
  if (word === 'well' || word === 'reluctant' || word === 'unable') return word
  throw new Error(`not a state of health: ${word} (write well, reluctant or unable)`)
}

/** Terms of entries in order: `1`, or `1x4` for four of them. */
export function parseTerms(words: readonly string[]): number[] {
  return words.flatMap((word) => {
    const match = word.match(/^(\d+)(?:x(\d+))?$/)
    if (!match) throw new Error(`not a term: ${word} (write 3, or 3x2 for two entries of term 3)`)
    return Array.from({ length: Number(match[2] ?? 1) }, () => Number(match[1]))
  })
}

/** Words with the number of their values: `log 1 1 2 term 4` becomes log -> 1 1 2, term -> 4. */
export function parseOptions(words: readonly string[], names: readonly string[]): ReadonlyMap<string, string[]> {
  const options = new Map<string, string[]>()
  let values: string[] | null = null
  for (const word of words) {
    if (names.includes(word)) {
      values = []
      options.set(word, values)
    } else if (values === null) throw new Error(`not known here: ${word} (known: ${names.join(' ')})`)
    else values.push(word)
  }
  return options
}

/** `n1->n2 heartbeat term=4 commit=0 round=0`; `previous=3@1` and `last=3@1` are positions, `entries=4@2,5@2` a list. */
export function parseForgery(words: readonly string[]): PeerMessage {
  const { from, to, kind } = parseLink(words[0], words[1])
  const fields = Object.fromEntries(words.slice(2).flatMap(parseField))
  return { kind, from, to, ...(harmless[kind as string] ?? {}), ...fields } as PeerMessage
}

/** What a forged message says where the case does not care. */
const harmless: Readonly<Record<string, object>> = {
  pre_vote_response: { refusal: null },
  vote_request: { transfer: false },
  vote_response: { refusal: null },
  heartbeat: { commit: 0, round: 0, lastIndex: 0, session: 0 },
  heartbeat_response: { round: 0, session: 0, canLead: true },
  append: { prevIndex: 0, prevTerm: 0, entries: [], commit: 0 },
  append_response: { matchIndex: 0, rejected: null },
}

function parseField(word: string): [string, unknown][] {
  const [name = '', value = ''] = word.split('=')
  if (name === 'entries') return [[name, value === '' ? [] : value.split(',').flatMap(parseEntry)]]
  if (name === 'previous' || name === 'last') {
    const [index, term] = value.split('@').map(Number)
    const prefix = name === 'last' ? 'last' : 'prev'
    return [
      [`${prefix}Index`, index],
      [`${prefix}Term`, term],
    ]
  }
  return [[name, value === 'null' ? null : value === 'true' ? true : value === 'false' ? false : numberOrText(value)]]
}

function parseEntry(word: string): EntryMeta[] {
  const [index, term] = word.split('@').map(Number)
  return entriesOf(index as number, [term as number])
}

function numberOrText(word: string): number | string {
  return Number.isNaN(Number(word)) ? word : Number(word)
}
