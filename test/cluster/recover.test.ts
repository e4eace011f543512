import { expect, test } from 'vitest'
import type { Survivor } from '../../src/broker/forced-recovery.ts'
import { nodeDirectory } from '../../src/cli/fast-try/layout.ts'
import {
  cli,
  expectIntact,
  kill,
  leaderName,
  nodeNames,
  patienceMs,
  start,
  startLoad,
  until,
  waitEqualCommit,
  withCluster,
} from './support.ts'

const topic = 'Recovered'
const acknowledged = 500

test('a majority is lost for good: one survivor goes on with all it holds, after the operator has seen what it is', async () => {
  await withCluster(async (session) => {
    const producer = session.client.producer({ sendTimeoutMs: patienceMs })
    const load = await startLoad(session, producer, { topic, messagesPerSecond: 500 })
    await until(session, 'the load is acknowledged', () => load.acknowledged > acknowledged)
    await load.stop()
    // What is acknowledged lies on two of three: whoever goes on alone must be given it before the others are lost.
    await waitEqualCommit(session)
    const [survivor = '', ...lost] = nodeNames(session)
    const plan = session.plan.nodes.find((node) => node.name === survivor)
    if (!plan) throw new Error('no node')
    const folder = nodeDirectory(session.plan, plan)
    expect((await cli('raft', 'recover', '--data', folder)).stderr).toContain('FOLDER_IN_USE')
    await kill(session, nodeNames(session))

    const looked = await cli('raft', 'recover', '--data', folder, '-o', 'json')
    const [found] = JSON.parse(looked.stdout) as Survivor[]
    expect(found).toMatchObject({ node: survivor, problem: null, voters: nodeNames(session) })
    const refused = await cli('raft', 'recover', '--data', folder, '--confirm', 'yes')
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining(found?.confirmation ?? '?') })
    const done = await cli('raft', 'recover', '--data', folder, '--confirm', found?.confirmation ?? '')
    expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining(`${survivor} is the only voter`) })

    start(session, [survivor])
    expect(await leaderName(session)).toBe(survivor)
    await expectIntact(session, load, topic)
    const late = await producer.send({ topic, body: 'late' })
    expect(late.status).toBe('SEND_OK')
    start(session, lost)
    expect(await producer.send({ topic, body: 'later' })).toMatchObject({ status: 'SEND_OK' })
    await producer.close()
  })
})
