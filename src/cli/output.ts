/**
 * What the command line prints: data on stdout as a table or JSON, talk on stderr. Called by every command; decides
 * nothing about the data. Tables are never cut, so that pipes see everything.
 */
import { type ErrorCode, errorTable, LedgerError, toLedgerError } from '../common/errors.ts'

export type OutputFormat = 'table' | 'json'

export type Cell = string | number | boolean | null | undefined

/** One column of a table: its head and how to get its cell from a row. */
export interface Column<Row> {
  readonly head: string
  readonly cell: (row: Row) => Cell
}

export function printData(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Progress, hints and errors: never mixed into data. */
export function printTalk(text: string): void {
  process.stderr.write(`${text}\n`)
}

export function printJson(value: unknown): void {
  printData(JSON.stringify(value))
}

export function formatTable<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const cells = [
    columns.map((column) => column.head),
    ...rows.map((row) => columns.map((column) => show(column.cell(row)))),
  ]
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => (line[index] ?? '').length)))
  return cells
    .map((line) =>
      line
        .map((cell, index) => cell.padEnd(widths[index] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** Unknown is a dash, never 0 or -1. */
function show(cell: Cell): string {
  return cell === null || cell === undefined || cell === '' ? '-' : String(cell)
}

/** Exit codes: 0 success, 1 error, 2 usage, 3 not found, 4 refused, 5 timeout, 6 no leader or quorum, 10 unhealthy. */
export function exitCodeOf(code: ErrorCode): number {
  switch (code) {
    case 'TOPIC_NOT_EXIST':
    case 'SUBSCRIPTION_GROUP_NOT_EXIST':
    case 'NOT_A_MEMBER':
      return 3
    case 'CHANGE_IN_PROGRESS':
    case 'NOT_CAUGHT_UP':
      return 4
    case 'CONFIG_INVALID':
    case 'INVALID_PARAMETER':
    case 'INVALID_REQUEST':
      return 2
    case 'TIMEOUT':
    case 'DEADLINE_EXCEEDED':
    case 'OUTCOME_UNKNOWN':
      return 5
    case 'NO_QUORUM':
    case 'NOT_LEADER':
    case 'NO_ROUTE':
      return 6
    default:
      return errorTable[code].retryable ? 1 : 4
  }
}

/** Prints an error with cause and hint and gives the exit code. */
export function reportError(error: unknown, format: OutputFormat): number {
  const known = toLedgerError(error)
  if (format === 'json') {
    printData(
      JSON.stringify({ error: { code: known.code, message: known.message, hint: known.hint, details: known.facts } }),
    )
  } else {
    printTalk(`${known.code}: ${known.message}`)
    printTalk(`  ${known.hint}`)
    for (const attempt of known.facts.attempts ?? []) printTalk(`  tried: ${attempt}`)
  }
  if (!(error instanceof LedgerError) && error instanceof Error && error.stack) printTalk(error.stack)
  return exitCodeOf(known.code)
}
