/** Rows of bad input that meet a process before it serves: configuration, ports, folders. See bad-input.test.ts. */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type NodePlan, nodeDirectory } from '../../src/cli/fast-try/layout.ts'
import { sleep, systemClock } from '../../src/common/clock.ts'
import { adminMethods } from '../../src/rpc/methods.ts'
import type { Channel } from '../../src/rpc/transport.ts'
import { makeBatch } from '../src/broker/apply/support.ts'
import { ProduceClient } from '../src/broker/handler/support.ts'
import { freePort, run, startBroker, takePort } from './lone-broker.ts'
import type { CliResult } from './support.ts'
import { channelTo, patienceMs, withCluster } from './support.ts'

const usageExitCode = 2
const refusedExitCode = 4
const callTimeoutMs = 30_000

let parent: string
let data: string

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'ledgermq-test-'))
  data = join(parent, 'data')
})

afterEach(() => {
  rmSync(parent, { recursive: true, force: true })
})

describe('configuration that is wrong stops the start with the key, the reason and what would be right', () => {
  const good = ['--node', 'n0', '--listen', '127.0.0.1:1', '--peers', 'n0=127.0.0.1:2']
  const flags: readonly (readonly [args: readonly string[], text: RegExp])[] = [
    [['--segment-byte', '8MiB'], /unknown option '--segment-byte'\s+\(Did you mean --segment-bytes\?\)/],
    [['--segment-bytes', '8'], /CONFIG_INVALID: segmentBytes in the flags: "8" is outside 8MiB to 4GiB/],
    [['--segment-bytes', '1.5'], /CONFIG_INVALID: segmentBytes in the flags: "1.5" is /],
    [
      ['--register-interval', '5 parsecs'],
      /CONFIG_INVALID: registerInterval in the flags: "5 parsecs" .*allowed: 1s to /,
    ],
    [['--log-level', 'loud'], /CONFIG_INVALID: logLevel in the flags: "loud" is none of debug, info, warn, error/],
    [
      ['--group', '../x'],
      /CONFIG_INVALID: group in the flags: "..\/x" is not a name of up to 64 characters a-z A-Z 0-9 _ -/,
    ],
    [['--node', 'n9'], /CONFIG_INVALID: members: must contain this node \(n9\); it has n0/],
    [['--peers', 'n0'], /CONFIG_INVALID: peers: "n0" is not node=host:port/],
    [['--listen', '127.0.0.1:99999'], /CONFIG_INVALID: "127.0.0.1:99999" is no address of the form host:port/],
    [['--listen', '0.0.0.0:30999'], /CONFIG_INVALID: 0.0.0.0:30999 is reachable from other machines .*--insecure/],
    [['--config', '/nowhere/at-all.json'], /CONFIG_INVALID: configuration file \/nowhere\/at-all.json: ENOENT/],
  ]

  test.each(flags)('broker %j', async (args, text) => {
    expectStopped(await run(['broker', ...good, '--data', data, ...args]), text)
  })

  test('broker without a key that must be given', async () => {
    expectStopped(await run(['broker', '--data', data]), /CONFIG_INVALID: node must be given: Id of this replica/)
  })

  const files: readonly (readonly [content: string, text: RegExp])[] = [
    ['{"segmentByte": 1}', /unknown key "segmentByte" in the configuration file; did you mean "segmentBytes"\?/],
    ['{"bootstrap": "perhaps"}', /bootstrap in the configuration file: "perhaps" is neither true nor false/],
    ['{"__proto__": {"bootstrap": true}}', /unknown key "__proto__" in the configuration file/],
    ['[]', /the configuration file must hold one JSON object/],
    ['{"node": ', /configuration file .*: (Unexpected end of JSON input|Expected)/],
  ]

  test.each(files)('a broker with the file %s', async (content, text) => {
    const path = join(parent, 'broker.json')
    writeFileSync(path, content)
    const result = await run(['broker', ...good, '--data', data, '--config', path])
    rmSync(path)
    expectStopped(result, text)
  })

  test('a broker with a wrong environment variable, which is named', async () => {
    const result = await run(['broker', '--data', data, ...good.slice(2)], { LEDGERMQ_NODE: 'n 0' })
    expectStopped(result, /CONFIG_INVALID: node in the environment variable LEDGERMQ_NODE: "n 0" is not a name of/)
  })

  const namesrv: readonly (readonly [args: readonly string[], text: RegExp])[] = [
    [['--listn', '127.0.0.1:1'], /unknown option '--listn'\s+\(Did you mean --listen\?\)/],
    [['--listen', 'nonsense'], /CONFIG_INVALID: "nonsense" is no address of the form host:port/],
    [['--listen', '0.0.0.0:30999'], /CONFIG_INVALID: 0.0.0.0:30999 is reachable from other machines .*--insecure/],
    [
      ['--register-interval', '0'],
      /option '--register-interval <ms>' argument '0' is invalid. expected a whole number/,
    ],
    [['--log-level', 'loud'], /argument 'loud' is invalid. Allowed choices are debug, info, warn, error/],
  ]

  test.each(namesrv)('namesrv %j', async (args, text) => {
    expectStopped(await run(['namesrv', ...args]), text)
  })

  test('an unknown command, with the one that was probably meant', async () => {
    expectStopped(await run(['namesv']), /unknown command 'namesv'\s+\(Did you mean namesrv\?\)/)
  })
})

describe('a port that is in use', () => {
  const ports = ['client', 'raft'] as const

  test.each(ports)(
    'the %s port of a broker: PORT_IN_USE with the address, and no data folder comes into being',
    async (kind) => {
      const taken = await takePort()
      try {
        const result = await startBroker({
          ...someBroker(kind === 'raft' ? taken.port : await freePort()),
          data,
          listenPort: kind === 'client' ? taken.port : await freePort(),
        })
        expectRefused(result, new RegExp(`^PORT_IN_USE: 127.0.0.1:${taken.port} is in use by another process$`, 'm'))
        expect(existsSync(data)).toBe(false)
      } finally {
        await taken.free()
      }
    },
  )

  test('the port of a namesrv: PORT_IN_USE with the address', async () => {
    const taken = await takePort()
    try {
      const result = await run(['namesrv', '--listen', `127.0.0.1:${taken.port}`])
      expectRefused(result, new RegExp(`^PORT_IN_USE: 127.0.0.1:${taken.port} is in use by another process$`, 'm'))
    } finally {
      await taken.free()
    }
  })
})

test('a data folder that another process uses: FOLDER_IN_USE, the other process goes on, no file comes or goes', async () => {
  await withCluster(async (session) => {
    const { plan, cluster, client } = session
    const [node] = plan.nodes as [NodePlan]
    const folder = nodeDirectory(plan, node)
    const pid = cluster.processes.pid(node.name)
    const before = filesIn(folder)
    const result = await startBroker({
      ...someBroker(await freePort()),
      cluster: plan.cluster,
      group: node.group,
      node: node.node,
      data: folder,
      listenPort: await freePort(),
    })
    expectRefused(result, /^FOLDER_IN_USE: .*groups\/RaftNode00\/n0/m)
    expect(filesIn(folder)).toEqual(before)
    await using producer = client.producer({ sendTimeoutMs: patienceMs })
    await producer.send({ topic: 'StillHere', body: 'x' })
    await cluster.waitHealthy(patienceMs)
    expect(cluster.processes.pid(node.name)).toBe(pid)
  })
})

test('--auto-create-topics off: unknown topics get TOPIC_NOT_EXIST (17) until someone creates them on purpose', async () => {
  const listenPort = await freePort()
  const running = startBroker({
    ...someBroker(await freePort()),
    data,
    listenPort,
    bootstrap: true,
    flags: ['--auto-create-topics', 'off'],
  })
  const channel = channelTo(listenPort)
  const create = (automatic: boolean): Promise<unknown> => {
    const config = { topic: 'Orders', readQueues: 1, writeQueues: 1, permission: 6 }
    return channel.call(adminMethods.createTopic, { config, automatic }, { timeoutMs: callTimeoutMs })
  }
  try {
    await untilSettingsApply(channel)
    const produce = new ProduceClient(channel)
    expect(await produce.send(makeBatch({ topic: 'Orders' }), callTimeoutMs)).toMatchObject({
      code: 17,
      status: { code: 17 },
    })
    await expect(create(true)).rejects.toMatchObject({ code: 'TOPIC_NOT_EXIST', stored: 'no' })
    await create(false)
    expect(await produce.send(makeBatch({ topic: 'Orders' }), callTimeoutMs)).toMatchObject({ code: 0, baseOffset: 0 })
  } finally {
    channel.close()
    running.kill()
    await running
  }
})

/** The first entry of a new group is the leader's no-op; the settings of its operator follow at once. */
async function untilSettingsApply(channel: Channel): Promise<void> {
  const endMs = systemClock.monotonicMs() + patienceMs
  while (systemClock.monotonicMs() < endMs) {
    const status = await channel.call(adminMethods.getReplicaStatus, {}, { timeoutMs: callTimeoutMs }).catch(() => null)
    if (status && status.appliedIndex >= 2) return
    await sleep(systemClock, 50)
  }
  throw new Error('the settings were not applied in time')
}

function someBroker(raftPort: number): Omit<Parameters<typeof startBroker>[0], 'data' | 'listenPort'> {
  return { cluster: 'RaftCluster', group: 'RaftNode00', node: 'n0', peers: `n0=127.0.0.1:${raftPort}` }
}

/** Stopped before anything was touched: nothing ready, nothing in the folder above the data. */
function expectStopped(result: CliResult, text: RegExp): void {
  expect(result.stderr).toMatch(text)
  expect(result).toMatchObject({ code: usageExitCode, stdout: '' })
  expect(result.stderr).not.toMatch(/^\s+at /m)
  expect(readdirSync(parent)).toEqual([])
}

function expectRefused(result: CliResult, text: RegExp): void {
  expect(result.stderr).toMatch(text)
  expect(result).toMatchObject({ code: refusedExitCode, stdout: '' })
}

/**
 * Names only, for files that a living process writes; `level` keeps its own kind of log beside the data, and what is
 * about to be renamed comes and goes.
 */
function filesIn(folder: string): readonly string[] {
  return (readdirSync(folder, { recursive: true }) as string[])
    .filter((name) => !name.startsWith('state/') && !name.endsWith('.tmp'))
    .sort()
}
