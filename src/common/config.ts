/**
 * Configuration as a typed table of keys: read once at start, complete or refused.
 *
 * Each process declares a table; flags win over environment, environment over file, file over default. An unknown key
 * or a wrong value stops the start with the key, the reason and what would be right: a typing error that is silently
 * ignored is found out in the worst hour. Reads no file and no environment itself: the command line passes them in.
 */
import { BadValue, type ValueKind } from './config-values.ts'
import { LedgerError } from './errors.ts'

export interface ConfigKey<Value> {
  readonly kind: ValueKind<Value>
  /** One sentence for help and documentation. */
  readonly doc: string
  /** Name of the environment variable, if it may come from there. */
  readonly env?: string
  /** Undefined: the key must be given. */
  readonly default: Value | undefined
}

// biome-ignore lint/suspicious/noExplicitAny: a table holds keys of unrelated types, each of which is kept
export type ConfigTable = Readonly<Record<string, ConfigKey<any>>>

/** The values of a table. */
export type ConfigOf<Table extends ConfigTable> = {
  readonly [Key in keyof Table]: Table[Key] extends ConfigKey<infer Value> ? Value : never
}

export interface ConfigSources {
  /** A parsed JSON file; undefined when there is none. */
  readonly file?: unknown
  readonly env?: Readonly<Record<string, string | undefined>>
  /** By key; undefined where a flag was not given. */
  readonly flags?: Readonly<Record<string, unknown>>
}

/** Declares a key; without `default` it must be given. */
export function key<Value>(
  kind: ValueKind<Value>,
  options: { readonly doc: string; readonly default?: NoInfer<Value>; readonly env?: string },
): ConfigKey<Value> {
  const { doc, env } = options
  return { kind, doc, default: options.default, ...(env === undefined ? {} : { env }) }
}

/**
 * All values of the table. Throws CONFIG_INVALID for an unknown key in file or flags, a wrong value anywhere, and a
 * key without default that is not given. Unknown environment variables are left alone: others set them too.
 */
export function readConfig<Table extends ConfigTable>(table: Table, sources: ConfigSources): ConfigOf<Table> {
  const file = fileEntries(sources.file)
  const flags = Object.entries(sources.flags ?? {}).filter(([, value]) => value !== undefined)
  for (const [name] of file) checkKnown(table, name, 'the configuration file')
  for (const [name] of flags) checkKnown(table, name, 'the flags')
  const given = { file: new Map(file), flags: new Map(flags), env: sources.env ?? {} }
  const values = Object.entries(table).map(([name, entry]) => [name, readKey(name, entry, given)])
  return Object.fromEntries(values) as ConfigOf<Table>
}

interface Given {
  readonly file: ReadonlyMap<string, unknown>
  readonly flags: ReadonlyMap<string, unknown>
  readonly env: Readonly<Record<string, string | undefined>>
}

function readKey(name: string, entry: ConfigKey<unknown>, { file, flags, env }: Given): unknown {
  if (flags.has(name)) return parse(name, entry, flags.get(name), 'the flags')
  const fromEnv = entry.env === undefined ? undefined : env[entry.env]
  if (fromEnv !== undefined) return parse(name, entry, fromEnv, `the environment variable ${entry.env}`)
  if (file.has(name)) return parse(name, entry, file.get(name), 'the configuration file')
  if (entry.default === undefined) throw invalid(`${name} must be given: ${entry.doc}`)
  return entry.default
}

function parse(name: string, { kind }: ConfigKey<unknown>, raw: unknown, source: string): unknown {
  try {
    return kind.parse(raw)
  } catch (error) {
    if (!(error instanceof BadValue)) throw error
    const allowed = kind.allowed === '' || error.message.includes(kind.allowed) ? '' : ` (allowed: ${kind.allowed})`
    throw invalid(`${name} in ${source}: ${shown(raw)} ${error.message}${allowed}`)
  }
}

function fileEntries(file: unknown): readonly [string, unknown][] {
  if (file === undefined) return []
  if (typeof file !== 'object' || file === null || Array.isArray(file)) {
    throw invalid('the configuration file must hold one JSON object')
  }
  return Object.entries(file)
}

function checkKnown(table: ConfigTable, name: string, source: string): void {
  if (Object.hasOwn(table, name)) return
  const near = nearest(name, Object.keys(table))
  throw invalid(`unknown key ${shown(name)} in ${source}${near === undefined ? '' : `; did you mean ${shown(near)}?`}`)
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 80)
}

function invalid(message: string): LedgerError {
  return new LedgerError('CONFIG_INVALID', message)
}

/** The candidate that is the fewest edits away, if that is few enough to be a slip. Also for names of commands. */
export function nearest(name: string, candidates: readonly string[]): string | undefined {
  const typed = name.slice(0, 100).toLowerCase()
  const editsMax = Math.max(2, Math.floor(typed.length / 3))
  const ranked = candidates
    .map((candidate) => ({ candidate, edits: editDistance(typed, candidate.toLowerCase()) }))
    .sort((left, right) => left.edits - right.edits)
  const best = ranked[0]
  return best !== undefined && best.edits <= editsMax ? best.candidate : undefined
}

/** Levenshtein, one row at a time. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let line = 1; line <= from.length; line += 1) {
    const next = [line]
    for (let column = 1; column <= to.length; column += 1) {
      const replaced = (row[column - 1] ?? 0) + (from[line - 1] === to[column - 1] ? 0 : 1)
      next.push(Math.min(replaced, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[to.length] ?? 0
}

export interface ConfigRow {
  readonly key: string
  readonly kind: string
  readonly allowed: string
  /** Empty: must be given. */
  readonly default: string
  readonly env: string
  readonly doc: string
}

/** The table as rows of text, for help and documentation. */
export function describeConfig(table: ConfigTable): readonly ConfigRow[] {
  return Object.entries(table).map(([name, { kind, default: value, env, doc }]) => ({
    key: name,
    kind: kind.label,
    allowed: kind.allowed,
    default: value === undefined ? '' : kind.format(value),
    env: env ?? '',
    doc,
  }))
}
