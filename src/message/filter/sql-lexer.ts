/** Cuts a SQL92 filter into tokens. Used by `sql-parser.ts`. Looks at every character once. */
import { LedgerError } from '../../common/errors.ts'

export type Token =
  | { readonly kind: 'word'; readonly text: string; readonly at: number }
  | { readonly kind: 'text'; readonly value: string; readonly at: number }
  | { readonly kind: 'number'; readonly value: number; readonly at: number }
  | { readonly kind: 'sign'; readonly text: string; readonly at: number }
  | { readonly kind: 'end'; readonly at: number }

const blank = /[ \t\r\n]+/y
const word = /[A-Za-z_$][A-Za-z0-9_$.-]*/y
/** Hexadecimal and octal numbers of Java are left out on purpose: nobody means them. */
const number = /(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?/y
const sign = /<>|<=|>=|!=|[=<>(),+-]/y
const text = /'(?:[^']|'')*'/y

/** The last one is of kind `end`. Throws FILTER_ILLEGAL, naming the place. */
export function tokensOf(expression: string): readonly Token[] {
  const tokens: Token[] = []
  let at = 0
  const take = (pattern: RegExp): string | null => {
    pattern.lastIndex = at
    const found = pattern.exec(expression)?.[0] ?? null
    if (found !== null) at += found.length
    return found
  }
  while (at < expression.length) {
    if (take(blank) !== null) continue
    tokens.push(nextToken(expression, at, take))
  }
  tokens.push({ kind: 'end', at })
  return tokens
}

function nextToken(expression: string, at: number, take: (pattern: RegExp) => string | null): Token {
  const name = take(word)
  if (name !== null) return { kind: 'word', text: name, at }
  const digits = take(number)
  if (digits !== null) return { kind: 'number', value: toNumber(digits, expression, at), at }
  const quoted = take(text)
  if (quoted !== null) return { kind: 'text', value: quoted.slice(1, -1).replaceAll("''", "'"), at }
  const mark = take(sign)
  if (mark !== null) return { kind: 'sign', text: mark === '!=' ? '<>' : mark, at }
  if (expression[at] === "'") throw illegalFilter('a text has no end', at)
  throw illegalFilter(`${JSON.stringify(expression[at])} means nothing here`, at)
}

function toNumber(digits: string, expression: string, at: number): number {
  const value = Number(digits)
  if (!Number.isFinite(value)) throw illegalFilter(`${digits.slice(0, 40)} is no number that can be compared`, at)
  // 10a is neither a number nor a name.
  const next = expression[at + digits.length] ?? ''
  if (/[A-Za-z0-9_$.]/.test(next)) throw illegalFilter(`${digits}${next} is neither a number nor a name`, at)
  return value
}

export function illegalFilter(problem: string, at: number): LedgerError {
  return new LedgerError('FILTER_ILLEGAL', `filter, character ${at + 1}: ${problem}`)
}
