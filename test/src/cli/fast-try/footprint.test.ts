/** What a failed start takes away again. */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { enterFolder } from '../../../../src/cli/fast-try/footprint.ts'

let parent: string

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'ledgermq-footprint-'))
})

afterEach(() => rmSync(parent, { recursive: true, force: true }))

test('folders that were made go, with the parents that were made for them', () => {
  const footprint = enterFolder(join(parent, 'a', 'b'))
  writeFileSync(join(parent, 'a', 'b', 'cluster.json'), '')
  footprint.remove()
  expect(existsSync(join(parent, 'a'))).toBe(false)
})

test('what was there before stays', () => {
  writeFileSync(join(parent, 'mine'), '')
  const footprint = enterFolder(parent)
  writeFileSync(join(parent, 'cluster.json'), '')
  footprint.remove()
  expect(readdirSync(parent)).toEqual(['mine'])
})
