import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import {
  type Complaint,
  checkImports,
  checkInvariants,
  checkShape,
  checkWords,
  invariantsOf,
  promisesOf,
  type SourceFile,
  withoutComments,
} from './tidy/rules.ts'

const root = new URL('..', import.meta.url).pathname
const paths = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.ts'], {
  cwd: root,
  encoding: 'utf8',
})
const files: readonly SourceFile[] = paths
  .split('\n')
  .filter((path) => path !== '')
  .flatMap((path) => {
    try {
      return [{ path, text: readFileSync(`${root}${path}`, 'utf8') }]
    } catch {
      return []
    }
  })
// This file holds bad examples on purpose.
const tests = files.filter((file) => file.path.startsWith('test/') && file.path !== 'test/tidy.test.ts')
const sources = files.filter((file) => !file.path.startsWith('test/'))

function show(complaints: readonly Complaint[]): readonly string[] {
  return complaints.map((complaint) => `${complaint.path}:${complaint.line} ${complaint.text}`)
}

test('imports follow the layers, and each package has one home', () => {
  expect(files.length).toBeGreaterThan(30)
  expect(show([...sources, ...tests].flatMap(checkImports))).toEqual([])
})

test('time, chance, disk and network come in only through named adapters', () => {
  expect(show(files.flatMap(checkWords))).toEqual([])
})

test('every file says what it is and holds one concept', () => {
  expect(show(files.flatMap(checkShape))).toEqual([])
})

test('every invariant of ARCHITECTURE.md is asserted in code and named by a test', () => {
  const rows = invariantsOf(readFileSync(`${root}ARCHITECTURE.md`, 'utf8'))
  expect(rows.length).toBeGreaterThanOrEqual(16)
  expect(show(checkInvariants(rows, sources, tests))).toEqual([])
})

test('every promise of README.md names the tests that show it', () => {
  const rows = promisesOf(readFileSync(`${root}README.md`, 'utf8'))
  expect(rows.map(({ id }) => id)).toEqual(['P1', 'P2', 'P3', 'P4', 'P5', 'P6', 'P7', 'P8'])
  const paths = new Set(tests.map(({ path }) => path))
  for (const { id, shownBy } of rows) {
    expect(shownBy.length, id).toBeGreaterThan(0)
    expect(
      shownBy.filter((path) => !paths.has(path)),
      id,
    ).toEqual([])
  }
})

function source(path: string, text: string): SourceFile {
  return { path, text }
}

test('the import rule sees raft importing store, a deep import past a door, and a package away from home', () => {
  expect(checkImports(source('raft/log.ts', "import { x } from '../store/index.ts'"))).toHaveLength(1)
  expect(checkImports(source('src/broker/a.ts', "import { x } from '../../raft/core.ts'"))).toHaveLength(1)
  expect(checkImports(source('src/client/a.ts', "import type { x } from '../broker/broker.ts'"))).toHaveLength(1)
  expect(checkImports(source('src/client/a.ts', "const x = await import('@grpc/grpc-js')"))).toHaveLength(1)
  expect(checkImports(source('src/client/a.ts', "import { x } from '../rpc/methods.ts'"))).toEqual([])
})

test('the word rule sees clocks and chance in code but not in comments', () => {
  expect(checkWords(source('src/client/a.ts', 'const now = Date.now()'))).toHaveLength(1)
  expect(checkWords(source('src/client/a.ts', 'setTimeout(() => {}, 1)'))).toHaveLength(1)
  expect(checkWords(source('store/a.ts', 'const x = Math.random()'))).toHaveLength(1)
  expect(checkWords(source('raft/a.ts', 'async function x(): Promise<void> {}'))).toHaveLength(1)
  expect(checkWords(source('src/client/a.ts', '// unlike Date.now() this …'))).toEqual([])
  expect(checkWords(source('src/common/clock.ts', 'Date.now()'))).toEqual([])
})

test('the shape rule sees giants and files that do not introduce themselves', () => {
  expect(checkShape(source('src/a.ts', 'export const x = 1'))).toHaveLength(1)
  expect(checkShape(source('src/a.ts', `/** x */\n${'\n'.repeat(700)}`))).toHaveLength(1)
})

test('the invariant rule sees a missing assertion, a missing test and an unknown id', () => {
  const rows = invariantsOf('| R1 | one leader per term | x |\n| R2 | log matching | y |')
  const complaints = checkInvariants(
    rows,
    [source('raft/a.ts', "invariant(ok, 'R1: …'); invariant(ok, 'R9: …')")],
    [source('test/a.test.ts', "test('R2: logs match', () => {})")],
  )
  expect(complaints.map((complaint) => complaint.text)).toEqual([
    'R2 is asserted nowhere in the code',
    'R1 is named by no test title',
    'R9 is asserted but not in the table',
  ])
})

test('comments are blanked without moving lines, strings stay', () => {
  expect(withoutComments("a // b\n/* c\n*/ 'http://d'")).toBe("a     \n    \n   'http://d'")
})
