/**
 * The kinds of values that a configuration key can have, and how each is read from JSON, environment and flags.
 *
 * Used by the tables of keys; `config.ts` reads them. Reading only decides: it returns the value or throws
 * `BadValue` with the reason, and `config.ts` adds key and source.
 */

/** Why a value is refused, as the end of a sentence that begins with the value. */
export class BadValue extends Error {
  override readonly name = 'BadValue'
}

/** How one kind of value is read and shown. */
export interface ValueKind<Value> {
  /** For help texts: `integer`, `size`, … */
  readonly label: string
  /** What is allowed, for help texts and refusals; empty: anything of the kind. */
  readonly allowed: string
  /** Throws BadValue. */
  parse(raw: unknown): Value
  format(value: Value): string
}

export interface Range {
  readonly min: number
  readonly max: number
}

interface Unit {
  readonly name: string
  readonly factor: number
}

/** Smallest first. */
const byteUnits: readonly Unit[] = [
  { name: 'B', factor: 1 },
  { name: 'KiB', factor: 1024 },
  { name: 'MiB', factor: 1024 ** 2 },
  { name: 'GiB', factor: 1024 ** 3 },
  { name: 'TiB', factor: 1024 ** 4 },
]

const durationUnits: readonly Unit[] = [
  { name: 'ms', factor: 1 },
  { name: 's', factor: 1000 },
  { name: 'm', factor: 60_000 },
  { name: 'h', factor: 3_600_000 },
  { name: 'd', factor: 86_400_000 },
]

/** Text; `pattern` must match all of it, `explain` says in words what that means. */
export function textKind(rule?: { readonly pattern: RegExp; readonly explain: string }): ValueKind<string> {
  return {
    label: 'text',
    allowed: rule?.explain ?? '',
    parse(raw) {
      if (typeof raw !== 'string') throw new BadValue('is no text')
      if (rule !== undefined && !rule.pattern.test(raw)) throw new BadValue(`is not ${rule.explain}`)
      return raw
    },
    format: (value) => value,
  }
}

export function choiceKind<const Choice extends string>(choices: readonly Choice[]): ValueKind<Choice> {
  return {
    label: 'choice',
    allowed: choices.join(', '),
    parse(raw) {
      const found = choices.find((choice) => choice === raw)
      if (found === undefined) throw new BadValue(`is none of ${choices.join(', ')}`)
      return found
    },
    format: (value) => value,
  }
}

export function integerKind(range: Range): ValueKind<number> {
  return numberKind('integer', range, [], String)
}

/** Bytes, as a number or with a unit: `64MiB`. */
export function sizeKind(range: Range): ValueKind<number> {
  return numberKind('size', range, byteUnits, formatBytes)
}

/** Milliseconds, as a number or with a unit: `500ms`, `30s`, `2h`. */
export function durationKind(range: Range): ValueKind<number> {
  return numberKind('duration', range, durationUnits, formatDuration)
}

export const flagKind: ValueKind<boolean> = {
  label: 'true or false',
  allowed: '',
  parse(raw) {
    if (raw === true || raw === 'true' || raw === '1') return true
    if (raw === false || raw === 'false' || raw === '0') return false
    throw new BadValue('is neither true nor false')
  },
  format: String,
}

/** Texts: a JSON list, or one text with commas. */
export function listKind(options: { readonly itemsMax: number }): ValueKind<readonly string[]> {
  return {
    label: 'list',
    allowed: `at most ${options.itemsMax} items`,
    parse(raw) {
      const items = typeof raw === 'string' ? splitList(raw) : raw
      if (!Array.isArray(items) || items.some((item) => typeof item !== 'string' || item === '')) {
        throw new BadValue('is no list of texts')
      }
      if (items.length > options.itemsMax) throw new BadValue(`has more than ${options.itemsMax} items`)
      return items
    },
    format: (value) => value.join(','),
  }
}

function splitList(text: string): readonly string[] {
  return text.trim() === '' ? [] : text.split(',').map((item) => item.trim())
}

function numberKind(
  label: string,
  range: Range,
  units: readonly Unit[],
  format: (value: number) => string,
): ValueKind<number> {
  const allowed = `${format(range.min)} to ${format(range.max)}`
  return {
    label,
    allowed,
    parse(raw) {
      const value = typeof raw === 'string' ? parseNumber(raw, units) : raw
      if (typeof value !== 'number' || !Number.isSafeInteger(value)) {
        throw new BadValue(`is no ${label}${units.length > 0 ? ` such as ${format(range.max)}` : ''}`)
      }
      if (value < range.min || value > range.max) throw new BadValue(`is outside ${allowed}`)
      return value
    },
    format,
  }
}

function parseNumber(text: string, units: readonly Unit[]): number | undefined {
  const match = /^(-?\d+(?:\.\d+)?) ?([A-Za-z]*)$/.exec(text.trim())
  if (match === null) return undefined
  const [, digits = '', name = ''] = match
  if (name === '') return Number(digits)
  const unit = units.find((each) => each.name.toLowerCase() === name.toLowerCase())
  return unit === undefined ? undefined : Number(digits) * unit.factor
}

/** The largest unit that divides the value: 67108864 is `64MiB`. */
export function formatBytes(bytes: number): string {
  return formatWith(bytes, byteUnits)
}

export function formatDuration(ms: number): string {
  return formatWith(ms, durationUnits)
}

function formatWith(value: number, units: readonly Unit[]): string {
  const unit = units.findLast((each) => value !== 0 && value % each.factor === 0) ?? units[0]
  return unit === undefined ? String(value) : `${value / unit.factor}${unit.name}`
}
