/** A process that stood still when its connection came up: the limit for the connection must not speak first. */
import { expect, test } from 'vitest'
import { brokerMethods } from '../../../src/rpc/methods.ts'
import { bench, patienceMs } from './harness.ts'

const probe = { group: 'a', node: 'n0', leader: true }

test('a connection that came up while this process was busy is used, not given up', async () => {
  const { listen, connect } = bench({ limits: { connectTimeoutMs: 200 } })
  const server = await listen((routes) => routes.unary(brokerMethods.probe, async () => probe))
  const call = connect(server.address).call(brokerMethods.probe, {}, { timeoutMs: patienceMs })
  const untilMs = performance.now() + 500
  while (performance.now() < untilMs);
  expect(await call).toEqual(probe)
})
