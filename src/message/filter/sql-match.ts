/**
 * Judges messages by a SQL92 filter. Called by brokers for every message of a filtered subscription: no backtracking,
 * time linear in the expression and the values it names.
 *
 * Properties are texts. Compared with a number, a text counts as the number that it writes, and is unknown when it
 * writes none; compared with a boolean, only `true` and `false` count, in any case.
 */
import { unreachable } from '../../common/assert.ts'
import type { Comparison, Expression, Literal, Operand } from './sql-expression.ts'

/** Value of a property; undefined when the message does not have it. */
export type Properties = (name: string) => string | undefined

/** Null: unknown. */
type Truth = boolean | null

export function matchesSql(expression: Expression, properties: Properties): boolean {
  return judge(expression, properties) === true
}

function judge(expression: Expression, properties: Properties): Truth {
  switch (expression.kind) {
    case 'and':
      return all(expression.parts, properties, false)
    case 'or':
      return all(expression.parts, properties, true)
    case 'not':
      return not(judge(expression.part, properties))
    case 'compare':
      return compare(
        expression.comparison,
        operandValue(expression.left, properties),
        operandValue(expression.right, properties),
      )
    case 'between': {
      const value = operandValue(expression.operand, properties)
      const isAbove = compare('>=', value, operandValue(expression.low, properties))
      const isBelow = compare('<=', value, operandValue(expression.high, properties))
      if (isAbove === false || isBelow === false) return false
      return isAbove === null || isBelow === null ? null : true
    }
    case 'in': {
      const value = operandValue(expression.operand, properties)
      return value === null ? null : expression.values.has(String(value))
    }
    case 'text': {
      const value = operandValue(expression.operand, properties)
      return typeof value === 'string' ? testText(expression.test, value, expression.value) : null
    }
    case 'is_null':
      return properties(expression.name) === undefined
    case 'value':
      return toBoolean(operandValue(expression.operand, properties))
    default:
      return unreachable(expression)
  }
}

/** AND ends at the first false, OR at the first true; what is unknown counts only when nothing decides. */
function all(parts: readonly Expression[], properties: Properties, decisive: boolean): Truth {
  let truth: Truth = !decisive
  for (const part of parts) {
    const one = judge(part, properties)
    if (one === decisive) return decisive
    if (one === null) truth = null
  }
  return truth
}

function not(truth: Truth): Truth {
  return truth === null ? null : !truth
}

function operandValue(operand: Operand, properties: Properties): Literal | null {
  if (operand.kind === 'literal') return operand.value
  return properties(operand.name) ?? null
}

function compare(comparison: Comparison, left: Literal | null, right: Literal | null): Truth {
  if (left === null || right === null) return null
  if (typeof left === 'number' || typeof right === 'number') return order(comparison, toNumber(left), toNumber(right))
  if (typeof left === 'boolean' || typeof right === 'boolean') {
    const [one, other] = [toBoolean(left), toBoolean(right)]
    if (one === null || other === null) return null
    if (comparison === '=') return one === other
    return comparison === '<>' ? one !== other : null
  }
  return order(comparison, left, right)
}

function order<Value extends string | number>(comparison: Comparison, left: Value | null, right: Value | null): Truth {
  if (left === null || right === null) return null
  switch (comparison) {
    case '=':
      return left === right
    case '<>':
      return left !== right
    case '<':
      return left < right
    case '<=':
      return left <= right
    case '>':
      return left > right
    case '>=':
      return left >= right
    default:
      return unreachable(comparison)
  }
}

const numeral = /^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?$/

function toNumber(value: Literal): number | null {
  if (typeof value === 'number') return value
  return typeof value === 'string' && value.length <= 40 && numeral.test(value) ? Number(value) : null
}

function toBoolean(value: Literal | null): boolean | null {
  if (typeof value === 'boolean' || value === null) return value
  if (typeof value === 'number') return null
  const lower = value.length <= 5 ? value.toLowerCase() : ''
  return lower === 'true' ? true : lower === 'false' ? false : null
}

function testText(test: 'contains' | 'startswith' | 'endswith', value: string, wanted: string): boolean {
  if (test === 'startswith') return value.startsWith(wanted)
  return test === 'endswith' ? value.endsWith(wanted) : value.includes(wanted)
}
