/** `fast-try start` that cannot work: refused or undone, with the machine as it was. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { planCluster, savePlan } from '../../src/cli/fast-try/layout.ts'
import { cli } from './support.ts'

let parent: string

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'ledgermq-test-'))
})

afterEach(() => rmSync(parent, { recursive: true, force: true }))

test('more replicas than a group may have are refused at once, with the limit, and no folder is made', async () => {
  const data = join(parent, 'data')
  const result = await cli('fast-try', 'start', '--nodes', '100', '--any-ports', '--data', data)
  expect(result).toMatchObject({ code: 2, stderr: expect.stringContaining('at most 15 replicas') })
  expect(existsSync(data)).toBe(false)
})

test('a start that fails leaves no process and nothing in the folder that was not there before', async () => {
  const data = join(parent, 'data')
  mkdirSync(data)
  const plan = await planCluster({ dataDirectory: data, nodesPerGroup: 1, groups: 1, namesrvs: 1, anyPorts: true })
  savePlan(plan)
  // The broker cannot make its folder.
  writeFileSync(join(data, 'groups'), '')
  const result = await cli('fast-try', 'start', '--data', data)
  expect(result.code).not.toBe(0)
  expect(result.stderr).toContain('n0 ended while it started')
  expect(readdirSync(data).sort()).toEqual(['cluster.json', 'groups'])
  for (const { port } of plan.namesrvs) expect(await listens(port)).toBe(false)
})

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => socket.destroy())
    socket.once('connect', () => socket.end())
  })
}
