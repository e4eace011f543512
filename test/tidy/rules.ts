/**
 * The rules of the house as functions from a source text to complaints. `tidy.test.ts` runs them over the tree and
 * over known-bad snippets. A complaint names what to do instead.
 */
import { posix } from 'node:path'

export interface SourceFile {
  /** Relative to the repository, with `/`. */
  readonly path: string
  readonly text: string
}

export interface Complaint {
  readonly path: string
  readonly line: number
  readonly text: string
}

/** Who may import whom. The first row whose `from` matches decides; paths are prefixes of files in the repository. */
const layers: readonly { readonly from: string; readonly to: readonly string[]; readonly why: string }[] = [
  { from: 'raft/', to: ['raft/'], why: 'raft decides and depends on nothing' },
  { from: 'store/', to: ['store/'], why: 'store remembers and depends on nothing' },
  { from: 'src/common/', to: ['src/common/'], why: 'common is at the bottom of src' },
  { from: 'src/message/', to: ['src/message/', 'src/common/'], why: 'the batch format knows only common' },
  {
    from: 'src/rpc/peer-codec.ts',
    to: ['src/rpc/', 'src/common/', 'raft/index.ts'],
    why: 'the peer codec translates the messages of raft',
  },
  { from: 'src/rpc/', to: ['src/rpc/', 'src/common/'], why: 'rpc knows only common' },
  {
    from: 'src/namesrv/',
    to: ['src/namesrv/', 'src/rpc/', 'src/message/', 'src/common/'],
    why: 'a namesrv holds no messages',
  },
  {
    from: 'src/client/',
    to: ['src/client/', 'src/rpc/', 'src/message/', 'src/common/'],
    why: 'the SDK never sees the broker',
  },
  {
    from: 'src/broker/apply/',
    to: [
      'src/broker/apply/',
      'src/broker/membership/',
      'src/broker/contract.ts',
      'src/message/',
      'src/common/',
      'src/rpc/methods.ts',
      'store/index.ts',
    ],
    why: 'the state machine depends on nothing but entries and state',
  },
  {
    from: 'src/broker/',
    to: ['src/broker/', 'src/rpc/', 'src/message/', 'src/common/', 'raft/index.ts', 'store/index.ts'],
    why: 'the broker joins raft and store through their doors',
  },
  {
    from: 'src/testing/',
    to: ['src/', 'store/index.ts'],
    why: 'the embedded cluster is made of what users run',
  },
  {
    from: 'src/cli/',
    to: [
      'src/cli/',
      'src/client/',
      'src/broker/',
      'src/namesrv/',
      'src/rpc/',
      'src/message/',
      'src/common/',
      'store/index.ts',
    ],
    why: 'the command line sits on top',
  },
  { from: 'test/', to: ['test/', 'src/', 'raft/', 'store/'], why: 'tests may see everything' },
]

/** One package, one home. */
const packageHomes: readonly { readonly name: string; readonly homes: readonly string[] }[] = [
  { name: '@grpc/grpc-js', homes: ['src/rpc/'] },
  { name: '@grpc/proto-loader', homes: ['src/rpc/'] },
  { name: 'level', homes: ['store/level-key-value.ts'] },
  { name: 'pino', homes: ['src/common/pino-logger.ts'] },
  { name: 'commander', homes: ['src/cli/'] },
  { name: 'node:fs', homes: ['store/node-disk.ts', 'src/cli/'] },
  { name: 'node:fs/promises', homes: ['store/node-disk.ts', 'src/cli/'] },
  { name: 'node:crypto', homes: ['src/common/clock.ts', 'src/broker/verify.ts', 'src/cli/'] },
  { name: 'node:child_process', homes: ['src/cli/'] },
  { name: 'node:http2', homes: ['src/rpc/'] },
  { name: 'node:net', homes: ['src/rpc/', 'src/cli/'] },
]

/** Words that reach for time, chance or the outside; allowed only in the adapters that bring them in. */
const banned: readonly { readonly word: RegExp; readonly instead: string; readonly allowed: readonly string[] }[] = [
  ...['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask'].map((name) => ({
    word: new RegExp(`\\b${name}\\s*\\(`),
    instead: 'take a Clock (src/common/clock.ts) and use `after` or `defer`',
    allowed: ['src/common/clock.ts', 'src/cli/'],
  })),
  {
    word: /\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b|\bprocess\.hrtime\b/,
    instead: 'take a Clock, or the time as an argument',
    allowed: ['src/common/clock.ts', 'src/common/pino-logger.ts', 'src/cli/'],
  },
  {
    word: /\bMath\.random\b|\brandomUUID\b|\brandomBytes\b/,
    instead: 'take a Random (src/common/clock.ts)',
    allowed: ['src/common/clock.ts'],
  },
  { word: /\bAbortSignal\.timeout\b/, instead: 'take a Clock and abort from `after`', allowed: ['src/cli/'] },
  { word: /\bconsole\.\w+\(/, instead: 'take a Logger; the command line writes through its output file', allowed: [] },
  { word: /\bprocess\.exit\b/, instead: 'let the owner decide: take a `fatal` port', allowed: ['src/cli/'] },
  { word: /\b(TODO|FIXME|XXX|HACK)\b/, instead: 'do it, or file it', allowed: [] },
  { word: /@ts-(ignore|expect-error|nocheck)/, instead: 'make the types say it', allowed: [] },
]

/** The core of consensus knows no promises at all. */
const bannedInRaft = /\basync\b|\bawait\b|\bPromise\b|\bBuffer\b/

const linesPerFileMax = 600

/** Comments become spaces of the same length, so that lines and columns stay. Strings are left alone. */
export function withoutComments(text: string): string {
  return text.replace(/'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, (match) =>
    match.startsWith('/') ? match.replace(/[^\n]/g, ' ') : match,
  )
}

function lineOf(text: string, position: number): number {
  return text.slice(0, position).split('\n').length
}

/** Module specifiers with the position of their statement. */
function importsOf(code: string): readonly { readonly specifier: string; readonly position: number }[] {
  const pattern = /\b(?:from|import)\s*\(?\s*['"]([^'"]+)['"]/g
  return [...code.matchAll(pattern)].map((match) => ({ specifier: match[1] ?? '', position: match.index }))
}

export function checkImports(file: SourceFile): readonly Complaint[] {
  const code = withoutComments(file.text)
  const layer = layers.find((row) => file.path.startsWith(row.from))
  if (!layer) return []
  return importsOf(code).flatMap(({ specifier, position }) => {
    const complain = (text: string): Complaint[] => [{ path: file.path, line: lineOf(code, position), text }]
    if (!specifier.startsWith('.')) {
      const home = packageHomes.find((row) => row.name === specifier)
      if (!home || file.path.startsWith('test/') || home.homes.some((path) => file.path.startsWith(path))) return []
      return complain(`imports ${specifier}, which lives in ${home.homes.join(', ')} only`)
    }
    const target = posix.normalize(posix.join(posix.dirname(file.path), specifier))
    if (layer.to.some((allowed) => target.startsWith(allowed))) return []
    return complain(`imports ${target}: ${layer.why} (allowed: ${layer.to.join(', ')})`)
  })
}

export function checkWords(file: SourceFile): readonly Complaint[] {
  if (file.path.startsWith('test/')) return []
  const code = withoutComments(file.text)
  const complaints: Complaint[] = []
  code.split('\n').forEach((line, index) => {
    for (const rule of banned) {
      if (!rule.word.test(line) || rule.allowed.some((path) => file.path.startsWith(path))) continue
      complaints.push({ path: file.path, line: index + 1, text: `${rule.word.source}: ${rule.instead}` })
    }
    if (file.path.startsWith('raft/') && bannedInRaft.test(line))
      complaints.push({ path: file.path, line: index + 1, text: 'raft is synchronous and holds no payload' })
  })
  file.text.split('\n').forEach((line, index) => {
    if (/\/\/.*\b(TODO|FIXME|XXX|HACK)\b/.test(line))
      complaints.push({ path: file.path, line: index + 1, text: 'a leftover note: do it, or file it' })
  })
  return complaints
}

/** A file opens by saying what it is. */
export function checkShape(file: SourceFile): readonly Complaint[] {
  const complaints: Complaint[] = []
  const lines = file.text.split('\n').length
  if (lines > linesPerFileMax)
    complaints.push({
      path: file.path,
      line: lines,
      text: `has ${lines} lines: more than one concept? (${linesPerFileMax})`,
    })
  if (!file.path.startsWith('test/') && !/^(#!.*\n)?\/\*\*/.test(file.text))
    complaints.push({
      path: file.path,
      line: 1,
      text: 'opens without saying what it is, who calls it, what it must never do',
    })
  return complaints
}

export interface InvariantRow {
  readonly id: string
  readonly statement: string
}

export interface PromiseRow {
  readonly id: string
  /** Paths of tests. */
  readonly shownBy: readonly string[]
}

/** The rows of the table of promises: `| P1 | what | tests |`. */
export function promisesOf(readme: string): readonly PromiseRow[] {
  return [...readme.matchAll(/^\| (P\d) \|.*\|([^|]*)\|$/gm)].map(([, id = '', tests = '']) => ({
    id,
    shownBy: [...tests.matchAll(/`(test\/[^`]+)`/g)].map(([, path = '']) => path),
  }))
}

/** Rows `| R1 | statement | …` of the table of invariants. */
export function invariantsOf(architecture: string): readonly InvariantRow[] {
  return [...architecture.matchAll(/^\| ([A-Z]\d+) \| ([^|]+) \|/gm)].map((match) => ({
    id: match[1] ?? '',
    statement: (match[2] ?? '').trim(),
  }))
}

/** Each invariant has an `invariant(…, 'R1: …')` in code and its id in a test title, and no unknown ids are used. */
export function checkInvariants(
  rows: readonly InvariantRow[],
  sources: readonly SourceFile[],
  tests: readonly SourceFile[],
): readonly Complaint[] {
  const asserted = new Set(
    sources.flatMap((file) => [...file.text.matchAll(/['"`]([A-Z]\d): /g)].map((match) => match[1] ?? '')),
  )
  const tested = new Set(
    tests.flatMap((file) =>
      [...file.text.matchAll(/\b(?:test|it|describe)(?:\.\w+)*\(\s*['"`][^'"`\n]*/g)].flatMap((match) =>
        [...match[0].matchAll(/\b([RSBN]\d)\b/g)].map((id) => id[1] ?? ''),
      ),
    ),
  )
  const known = new Set(rows.map((row) => row.id))
  const complain = (text: string): Complaint => ({ path: 'ARCHITECTURE.md', line: 1, text })
  return [
    ...rows.filter((row) => !asserted.has(row.id)).map((row) => complain(`${row.id} is asserted nowhere in the code`)),
    ...rows.filter((row) => !tested.has(row.id)).map((row) => complain(`${row.id} is named by no test title`)),
    ...[...asserted].filter((id) => !known.has(id)).map((id) => complain(`${id} is asserted but not in the table`)),
  ]
}
