/** What a folder is found to be, from files that were written before: no cluster, no time. */
import { expect, test } from 'vitest'
import { defaultRaftConfig, RaftCore } from '../../../../raft/index.ts'
import { openStateMachine } from '../../../../src/broker/apply/state-machine.ts'
import { MembershipHistory } from '../../../../src/broker/membership/history.ts'
import { firstMembership } from '../../../../src/broker/membership/membership.ts'
import { FolderRecords } from '../../../../src/broker/replica/identity.ts'
import { prepareHardState } from '../../../../src/broker/replica/recovery.ts'
import { configuration, folder, openState, recoverFrom, rotBody, rotHeader } from './recovery-fixture.ts'

test('P6: damage of unknown terms above the commit ends the log, as a rotten end does', async () => {
  const { disk, frames } = await folder([1, 1, 1, 2, 3, 3, 3], 2)
  rotHeader(disk, frames[3])
  const { log, boot, quarantine, memberships } = await recoverFrom(disk)
  expect(quarantine).toMatchObject({ pending: true, untilLeaderReached: true })
  expect(quarantine?.reason).toMatch(/nobody can say of which term entries 4 to 4 were/)
  expect(await new FolderRecords(disk, 'data').quarantine()).toEqual(quarantine)
  expect(log.lastIndex).toBe(3)
  expect(log.holes).toEqual([])
  expect(boot).toMatchObject({
    lastIndex: 3,
    termRuns: [{ first: 1, term: 1 }],
    hardState: { term: 3 },
    quarantine: { untilLeaderReached: true },
  })
  expect(memberships).toHaveLength(1)
  await log.close()
  const again = await recoverFrom(disk)
  expect(again.log.lastIndex).toBe(3)
  expect(again.quarantine).toMatchObject({ pending: true, untilLeaderReached: true })
})

test('P6: nothing is cut before the quarantine is on record', async () => {
  const { disk, frames } = await folder([1, 1, 1, 2, 3, 3, 3], 2)
  rotHeader(disk, frames[3])
  disk.fail('rename', { code: 'EIO', times: 1 })
  await expect(recoverFrom(disk)).rejects.toThrow()
  const { quarantine } = await recoverFrom(disk)
  expect(quarantine?.reason).toMatch(/entries 4 to 4/)
})

test('P6: damage below the commit, or whose terms are known, stays a hole', async () => {
  const committed = await folder([1, 1, 1, 2, 3, 3, 3], 4)
  rotHeader(committed.disk, committed.frames[3])
  const first = await recoverFrom(committed.disk)
  expect(first.log.lastIndex).toBe(7)
  expect(first.boot.quarantine).toEqual({ untilLeaderReached: false })
  const known = await folder([1, 1, 1, 1, 1, 3, 3], 2)
  rotHeader(known.disk, known.frames[3])
  const second = await recoverFrom(known.disk)
  expect(second.log.holes).toMatchObject([{ fromIndex: 4, toIndex: 4, termsKnown: true }])
  expect(second.boot.quarantine).toEqual({ untilLeaderReached: false })
})

test('P6: a membership that was applied stays in force when the log is cut before its entry', async () => {
  const { disk, frames } = await folder([1, 1, 1, 2, 3, 3, 3], 7)
  const store = await openState(disk)
  const machine = await openStateMachine(store)
  for (const { header, bytes } of frames) {
    const body = bytes.subarray(64, 64 + header.bodyLength)
    machine.apply({ ...header, body })
  }
  const changes = machine.takeChanges()
  if (changes) await store.write(changes)
  rotHeader(disk, frames[6])
  const { log, boot, memberships } = await recoverFrom(disk, store)
  expect(log.lastIndex).toBe(6)
  // Its entry comes again.
  new MembershipHistory(memberships, 6).appended(7, firstMembership(configuration))
  expect(boot.configurations.map(({ index }) => index)).toEqual([6])
  const core = new RaftCore({ ...defaultRaftConfig, id: 'n0' }, boot, () => 0.5, 0)
  expect(core.status(0)).toMatchObject({ lastIndex: 6, configurationIndex: 6 })
})

test('R1: where a membership may be missing, the next one need not follow from those that are known', async () => {
  const whole = await folder([1, 1, 1, 2, 3, 3, 3], 7)
  expect((await recoverFrom(whole.disk)).boot.mayLackConfigurations).toBe(false)
  const { disk, frames } = await folder([1, 1, 1, 2, 3, 3, 3], 7)
  rotBody(disk, frames[3])
  const { boot } = await recoverFrom(disk)
  expect(boot).toMatchObject({ mayLackConfigurations: true, quarantine: { untilLeaderReached: false } })
})

test('P6: what stands in the place of lost entries is not lost, and what is still missing of them is', async () => {
  const { disk, frames } = await folder([1, 1, 1, 2, 3, 3, 3], 7)
  const records = new FolderRecords(disk, 'data')
  const lost = [{ fromIndex: 2, toIndex: 5 }]
  const before = { pending: false, untilLeaderReached: false, reason: '', lost }
  await records.saveQuarantine(before)
  rotBody(disk, frames[1])
  const first = await recoverFrom(disk)
  expect(first.quarantine).toEqual({ ...before, lost: [{ fromIndex: 2, toIndex: 2 }] })
  expect(await records.quarantine()).toEqual(first.quarantine)
  await first.log.close()
  rotBody(disk, frames[3])
  const second = await recoverFrom(disk)
  expect(second.quarantine).toMatchObject({ pending: true, lost: [{ fromIndex: 2, toIndex: 2 }] })
})

test('P6: a record of nothing but lost entries goes with the last of them', async () => {
  const { disk } = await folder([1, 1, 1, 2, 3, 3, 3], 7)
  const records = new FolderRecords(disk, 'data')
  const lost = [{ fromIndex: 2, toIndex: 5 }]
  await records.saveQuarantine({ pending: false, untilLeaderReached: false, reason: '', lost })
  expect((await recoverFrom(disk)).quarantine).toBeNull()
  expect(await records.quarantine()).toBeNull()
})

test('R1: the term of a copied log is on record before the node speaks in it, and stays when its entries rot', async () => {
  const { disk, frames } = await folder([1, 1, 2, 5, 5], 0)
  // A node that was brought into its group has a log of its members, and no term of its own yet.
  await disk.unlink('data/hard-state')
  await prepareHardState(disk, 'data')
  const first = await recoverFrom(disk)
  expect(first.hardState.current).toEqual({ term: 5, vote: null, commit: 0 })
  await first.log.close()
  await first.hardState.close()
  for (const at of [3, 4]) rotHeader(disk, frames[at])
  const { boot, log } = await recoverFrom(disk)
  expect(log.lastTerm).toBe(2)
  // It may have acknowledged entries of term 5: a leader of an older one must not have it on its side again.
  const core = new RaftCore({ ...defaultRaftConfig, id: 'n0' }, boot, () => 0.5, 0)
  const message = {
    kind: 'heartbeat',
    from: 'n1',
    to: 'n0',
    term: 4,
    commit: 0,
    lastIndex: 3,
    round: 1,
    session: 1,
  } as const
  core.step({ kind: 'message', message }, 1)
  expect(core.status(1)).toMatchObject({ term: 5, leader: null })
})
