import { describe, expect, test } from 'vitest'
import { LedgerError } from '../../../../src/common/errors.ts'
import {
  expressionDepthMax,
  expressionLengthMax,
  expressionTermsMax,
} from '../../../../src/message/filter/sql-expression.ts'
import { matchesSql } from '../../../../src/message/filter/sql-match.ts'
import { parseSql } from '../../../../src/message/filter/sql-parser.ts'
import { SimRandom } from '../../../sim/random.ts'

const order: Readonly<Record<string, string>> = {
  region: 'EU',
  price: '19.5',
  count: '3',
  paid: 'TRUE',
  note: "it's %a_b",
  empty: '',
  word: 'many',
}

function matches(filter: string, properties: Readonly<Record<string, string>> = order): boolean {
  return matchesSql(parseSql(filter), (name) => (Object.hasOwn(properties, name) ? properties[name] : undefined))
}

describe('a message matches', () => {
  test.each([
    "region = 'EU'",
    "region <> 'US'",
    "region != 'US'",
    "'EU' = region",
    'price > 19',
    'price >= 19.5 AND price <= 19.50',
    'price BETWEEN 10 AND 20',
    'price NOT BETWEEN 20 AND 30',
    'count = 3.0',
    'count > -1 and count < +4',
    'count < 1e3',
    "region IN ('US', 'EU')",
    "region NOT IN ('US')",
    'missing IS NULL',
    'region is not null',
    'empty IS NOT NULL',
    'paid',
    'paid = true',
    'NOT paid = FALSE',
    'TRUE',
    "note = 'it''s %a_b'",
    "note CONTAINS '%a'",
    "note STARTSWITH 'it' AND note ENDSWITH 'b'",
    "note NOT CONTAINS 'x'",
    "missing = 'a' OR region = 'EU'",
    "NOT (region = 'US' OR price < 3)",
    "region = 'US' AND count = 1 OR paid",
    "region > 'EA'",
  ])('%s', (filter) => {
    expect(matches(filter)).toBe(true)
  })
})

describe('a message does not match', () => {
  test.each([
    "region = 'eu'",
    'price < 19.5',
    'price NOT BETWEEN 10 AND 20',
    "region NOT IN ('US', 'EU')",
    // What is not there is neither equal nor different, and its opposite is not true either.
    "missing = 'a'",
    "missing <> 'a'",
    "NOT (missing = 'a')",
    "missing NOT IN ('a')",
    'missing > 1 AND paid',
    'missing BETWEEN 1 AND 2',
    'missing NOT BETWEEN 1 AND 2',
    "missing CONTAINS 'a'",
    'missing',
    // A text that writes no number is not compared with one.
    'region > 5',
    'NOT region > 5',
    'empty = 0',
    'word',
    'paid > FALSE',
    'FALSE',
  ])('%s', (filter) => {
    expect(matches(filter)).toBe(false)
  })
})

test('false decides an AND and true an OR, whatever is unknown beside them', () => {
  expect(matches("NOT (missing = 1 AND region = 'US')")).toBe(true)
  expect(matches('missing = 1 OR TRUE')).toBe(true)
  expect(matches("NOT (missing = 1 OR region = 'US')")).toBe(false)
})

test('a property named as something that every object has is absent unless the message has it', () => {
  expect(matches('constructor IS NULL AND __proto__ IS NULL', {})).toBe(true)
})

describe('a filter is refused, with the place', () => {
  test.each([
    ['', 'character 1: expected a property'],
    ['   ', 'character 4: expected a property'],
    ['price >', 'character 8: expected a property'],
    ['price = = 3', 'character 9: expected a property'],
    ['price 3', 'character 7: expected AND, OR or the end'],
    ["'a'", 'character 1: a literal alone'],
    ['5', 'character 1: a literal alone'],
    ["price = 'a", 'character 9: a text has no end'],
    ['(price = 3', 'character 11: expected )'],
    ['price = 3)', 'character 10: expected AND, OR or the end'],
    ['price BETWEEN 1, 2', 'character 16: expected AND'],
    ['price IN 3', 'character 10: expected ('],
    ['region IN ()', 'character 12: expected a text'],
    ['region IN (3)', 'character 12: expected a text'],
    ['3 IS NULL', 'character 1: only a property'],
    ['price IS 3', 'character 10: expected NULL'],
    ['price NOT 3', 'character 11: expected BETWEEN'],
    ['and = 3', 'character 1: and cannot stand here'],
    ['price ; 3', 'character 7: ";" means nothing'],
    ['price = 10a', 'neither a number nor a name'],
    ['price = 1e999', 'no number that can be compared'],
    ['a = - b', 'character 7: expected a number'],
  ])('%s', (filter, problem) => {
    expect(() => parseSql(filter)).toThrow(problem)
    expect(() => parseSql(filter)).toThrow(expect.objectContaining({ code: 'FILTER_ILLEGAL' }))
  })
})

test('length, depth and number of comparisons have limits, and up to them all is well', () => {
  const nested = (depth: number): string => `${'('.repeat(depth)}a = 1${')'.repeat(depth)}`
  expect(() => parseSql(nested(expressionDepthMax))).not.toThrow()
  expect(() => parseSql(nested(expressionDepthMax + 1))).toThrow('nested deeper')
  expect(() => parseSql(`${'NOT '.repeat(expressionDepthMax + 1)}a = 1`)).toThrow('nested deeper')
  const many = (count: number): string => Array.from({ length: count }, () => 'a=1').join(' OR ')
  expect(() => parseSql(many(expressionTermsMax))).not.toThrow()
  expect(() => parseSql(many(expressionTermsMax + 1))).toThrow(`more than ${expressionTermsMax}`)
  const long = `a = '${'x'.repeat(expressionLengthMax)}'`
  expect(() => parseSql(long)).toThrow(`at most ${expressionLengthMax}`)
})

test('whatever is thrown at it, it parses or refuses with FILTER_ILLEGAL, and matching never throws', () => {
  const random = new SimRandom('sql filter')
  const pieces = [
    "'",
    "''",
    '(',
    ')',
    'a',
    'NOT ',
    'AND ',
    ' OR ',
    '=',
    '<>',
    '>',
    '1',
    '.5',
    'e9',
    ' IN ',
    ',',
    ' IS ',
  ]
  pieces.push('NULL', ' BETWEEN ', ' CONTAINS ', 'TRUE', '-', '$', 'ä', '\u0000', '\n', ' ')
  let parsed = 0
  for (let round = 0; round < 5000; round++) {
    const filter = Array.from({ length: 1 + random.below(12) }, () => random.pick(pieces)).join('')
    try {
      matchesSql(parseSql(filter), (name) => (name === 'a' ? '1' : undefined))
      parsed++
    } catch (error) {
      if (!(error instanceof LedgerError) || error.code !== 'FILTER_ILLEGAL') throw error
    }
  }
  expect(parsed).toBeGreaterThan(50)
})
