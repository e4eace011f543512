/**
 * Reads a SQL92 filter (RocketMQ's subset): comparisons, BETWEEN, IN, IS NULL, CONTAINS, STARTSWITH, ENDSWITH, AND, OR,
 * NOT, parentheses. Called by brokers for every subscription and by the SDK before it subscribes. Every limit is
 * checked here, so that matching needs none.
 */
import { LedgerError } from '../../common/errors.ts'
import {
  type Comparison,
  type Expression,
  expressionDepthMax,
  expressionLengthMax,
  expressionTermsMax,
  type Operand,
  type TextTest,
} from './sql-expression.ts'
import { illegalFilter, type Token, tokensOf } from './sql-lexer.ts'

const comparisons: ReadonlySet<string> = new Set<Comparison>(['=', '<>', '<', '<=', '>', '>='])
const textTests: ReadonlySet<string> = new Set<TextTest>(['contains', 'startswith', 'endswith'])
const keywords: ReadonlySet<string> = new Set([
  'and',
  'or',
  'not',
  'between',
  'in',
  'is',
  'null',
  'true',
  'false',
  ...textTests,
])

/** Throws FILTER_ILLEGAL with the place and what was expected there. */
export function parseSql(expression: string): Expression {
  if (typeof expression !== 'string') throw new LedgerError('FILTER_ILLEGAL', 'a filter must be a string')
  if (expression.length > expressionLengthMax)
    throw new LedgerError(
      'FILTER_ILLEGAL',
      `the filter has ${expression.length} characters, at most ${expressionLengthMax} are allowed`,
    )
  return new Parser(tokensOf(expression)).whole()
}

class Parser {
  readonly #tokens: readonly Token[]
  #next = 0
  #depth = 0
  #terms = 0

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  whole(): Expression {
    const expression = this.#any()
    const rest = this.#peek()
    if (rest.kind !== 'end') throw illegalFilter('expected AND, OR or the end', rest.at)
    return expression
  }

  #any(): Expression {
    return this.#chain('or', () => this.#chain('and', () => this.#negation()))
  }

  #chain(kind: 'and' | 'or', part: () => Expression): Expression {
    const first = part()
    const parts = [first]
    while (this.#takeWord(kind)) parts.push(part())
    return parts.length === 1 ? first : { kind, parts }
  }

  #negation(): Expression {
    if (!this.#takeWord('not')) return this.#term()
    return this.#inner(() => ({ kind: 'not', part: this.#negation() }))
  }

  #term(): Expression {
    if (this.#takeSign('(')) {
      const inside = this.#inner(() => this.#any())
      this.#expectSign(')')
      return inside
    }
    const { at } = this.#peek()
    if (++this.#terms > expressionTermsMax)
      throw illegalFilter(`more than ${expressionTermsMax} comparisons are not allowed`, at)
    const operand = this.#operand()
    if (this.#takeWord('is')) return this.#nullTest(operand, at)
    const negated = this.#takeWord('not')
    const test = this.#test(operand)
    if (test) return negated ? { kind: 'not', part: test } : test
    if (negated)
      throw illegalFilter('expected BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH behind NOT', this.#peek().at)
    return this.#comparison(operand, at)
  }

  #nullTest(operand: Operand, at: number): Expression {
    const negated = this.#takeWord('not')
    if (!this.#takeWord('null')) throw illegalFilter('expected NULL', this.#peek().at)
    if (operand.kind !== 'property') throw illegalFilter('only a property can be NULL', at)
    const test: Expression = { kind: 'is_null', name: operand.name }
    return negated ? { kind: 'not', part: test } : test
  }

  /** What may stand behind NOT, too; null for anything else. */
  #test(operand: Operand): Expression | null {
    if (this.#takeWord('between')) {
      const low = this.#operand()
      if (!this.#takeWord('and')) throw illegalFilter('expected AND', this.#peek().at)
      return { kind: 'between', operand, low, high: this.#operand() }
    }
    if (this.#takeWord('in')) return { kind: 'in', operand, values: this.#texts() }
    const test = [...textTests].find((name) => this.#takeWord(name)) as TextTest | undefined
    return test === undefined ? null : { kind: 'text', test, operand, value: this.#text() }
  }

  #comparison(left: Operand, at: number): Expression {
    const token = this.#peek()
    if (token.kind !== 'sign' || !comparisons.has(token.text)) {
      if (left.kind === 'literal' && typeof left.value !== 'boolean')
        throw illegalFilter('a literal alone is neither true nor false', at)
      return { kind: 'value', operand: left }
    }
    this.#next++
    return { kind: 'compare', comparison: token.text as Comparison, left, right: this.#operand() }
  }

  #operand(): Operand {
    const token = this.#peek()
    this.#next++
    if (token.kind === 'text') return { kind: 'literal', value: token.value }
    if (token.kind === 'number') return { kind: 'literal', value: token.value }
    if (token.kind === 'sign' && (token.text === '-' || token.text === '+')) {
      const digits = this.#peek()
      if (digits.kind !== 'number') throw illegalFilter('expected a number', digits.at)
      this.#next++
      return { kind: 'literal', value: token.text === '-' ? -digits.value : digits.value }
    }
    if (token.kind !== 'word') throw illegalFilter('expected a property, a text in quotes or a number', token.at)
    const lower = token.text.toLowerCase()
    if (lower === 'true' || lower === 'false') return { kind: 'literal', value: lower === 'true' }
    if (keywords.has(lower)) throw illegalFilter(`${token.text} cannot stand here`, token.at)
    return { kind: 'property', name: token.text }
  }

  #texts(): ReadonlySet<string> {
    const values = new Set<string>()
    this.#expectSign('(')
    do {
      if (++this.#terms > expressionTermsMax)
        throw illegalFilter(`more than ${expressionTermsMax} values are not allowed`, this.#peek().at)
      values.add(this.#text())
    } while (this.#takeSign(','))
    this.#expectSign(')')
    return values
  }

  #text(): string {
    const token = this.#peek()
    if (token.kind !== 'text') throw illegalFilter('expected a text in quotes', token.at)
    this.#next++
    return token.value
  }

  #inner(read: () => Expression): Expression {
    if (++this.#depth > expressionDepthMax)
      throw illegalFilter(`nested deeper than ${expressionDepthMax}`, this.#peek().at)
    const expression = read()
    this.#depth--
    return expression
  }

  #peek(): Token {
    return this.#tokens[this.#next] ?? (this.#tokens.at(-1) as Token)
  }

  #takeWord(keyword: string): boolean {
    const token = this.#peek()
    if (token.kind !== 'word' || token.text.toLowerCase() !== keyword) return false
    this.#next++
    return true
  }

  #takeSign(sign: string): boolean {
    const token = this.#peek()
    if (token.kind !== 'sign' || token.text !== sign) return false
    this.#next++
    return true
  }

  #expectSign(sign: string): void {
    if (!this.#takeSign(sign)) throw illegalFilter(`expected ${sign}`, this.#peek().at)
  }
}
