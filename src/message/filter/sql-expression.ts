/**
 * What a SQL92 filter says, as data (RocketMQ: FilterFactory, the grammar of SelectorParser). Made by `sql-parser.ts`,
 * judged by `sql-match.ts`.
 *
 * A property that is absent makes a comparison unknown, neither true nor false; only what is true in the end matches.
 */

export type Literal = string | number | boolean

export type Operand =
  | { readonly kind: 'property'; readonly name: string }
  | { readonly kind: 'literal'; readonly value: Literal }

export type Comparison = '=' | '<>' | '<' | '<=' | '>' | '>='
export type TextTest = 'contains' | 'startswith' | 'endswith'

export type Expression =
  | { readonly kind: 'and' | 'or'; readonly parts: readonly Expression[] }
  | { readonly kind: 'not'; readonly part: Expression }
  | {
      readonly kind: 'compare'
      readonly comparison: Comparison
      readonly left: Operand
      readonly right: Operand
    }
  | { readonly kind: 'between'; readonly operand: Operand; readonly low: Operand; readonly high: Operand }
  | { readonly kind: 'in'; readonly operand: Operand; readonly values: ReadonlySet<string> }
  | { readonly kind: 'text'; readonly test: TextTest; readonly operand: Operand; readonly value: string }
  | { readonly kind: 'is_null'; readonly name: string }
  /** An operand alone: it must be a boolean. */
  | { readonly kind: 'value'; readonly operand: Operand }

/** Characters of an expression. */
export const expressionLengthMax = 4096
/** Parentheses and NOTs inside each other. */
export const expressionDepthMax = 32
/** Comparisons and operands. */
export const expressionTermsMax = 256
