/** What handlers see while one replica ends and the next begins: the same object, honest answers, no silence. */
import { expect, test } from 'vitest'
import { SteadyReplica } from '../../../../src/broker/replica/steady-replica.ts'
import { frameTypes } from '../../../../store/index.ts'
import { ScriptedReplica } from '../scripted-replica.ts'
import { codeOf } from './support.ts'

test('between two replicas new work and current reads are refused at once, and listeners follow the next one', async () => {
  const steady = new SteadyReplica({ cluster: 'c', group: 'g', node: 'n0' })
  const first = await ScriptedReplica.open()
  const second = await ScriptedReplica.open()
  let applied = 0
  let roles = 0
  steady.onApplied(() => applied++)
  steady.onRoleChanged(() => roles++)
  steady.attach(first)
  expect([steady.leading, steady.running]).toEqual([true, true])
  first.commit(frameTypes.noop, Buffer.alloc(0))
  expect([applied, roles]).toEqual([1, 1])
  steady.detach()
  expect([steady.leading, steady.running]).toEqual([false, false])
  expect(steady.leader()).toBeNull()
  expect(steady.machine).toBe(first.machine)
  expect(await codeOf(steady.propose(frameTypes.noop, [], { timeoutMs: 1000 }))).toBe('SERVICE_NOT_AVAILABLE')
  expect(await codeOf(steady.readCurrent({ timeoutMs: 1000 }))).toBe('SERVICE_NOT_AVAILABLE')
  steady.attach(second)
  first.commit(frameTypes.noop, Buffer.alloc(0))
  second.commit(frameTypes.noop, Buffer.alloc(0))
  expect([applied, roles]).toEqual([2, 3])
  expect(steady.machine).toBe(second.machine)
})
