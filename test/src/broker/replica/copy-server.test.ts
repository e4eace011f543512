/** What a replica says of entries that it is asked for. */
import { expect, test } from 'vitest'
import { type CopySource, registerCopyServer } from '../../../../src/broker/replica/copy-server.ts'
import { type FetchLogReply, type FetchLogRequest, raftMethods } from '../../../../src/rpc/methods.ts'
import type { ServerRoutes } from '../../../../src/rpc/transport.ts'
import { StoreError } from '../../../../store/index.ts'
import { ManualClock } from '../../../support/manual-clock.ts'

/** Asks for entry 5 of a log whose disk does not give it. */
function fetchFrom(holes: readonly { readonly fromIndex: number; readonly toIndex: number }[]): Promise<FetchLogReply> {
  const read = (): Promise<never> => Promise.reject(new StoreError('ROTTEN', 'the disk refuses to read it'))
  const log = { firstIndex: 1, durableIndex: 9, endPosition: 640, holes, read }
  const source = { log, commitIndex: 9, appliedIndex: 9, leads: false } as unknown as CopySource
  const handlers = new Map<unknown, (request: FetchLogRequest) => Promise<FetchLogReply>>()
  const routes = {
    unary: (method: unknown, handler: (request: FetchLogRequest) => Promise<FetchLogReply>) =>
      handlers.set(method, handler),
    stream: () => {},
  }
  registerCopyServer(routes as unknown as ServerRoutes, { clock: new ManualClock(), source: () => source })
  const request = { fromIndex: 5, toIndex: 9, uncommitted: false, bytesMax: 1024 } as FetchLogRequest
  return handlers.get(raftMethods.fetchLog)?.(request) ?? Promise.reject(new Error('no handler'))
}

test('P6: an entry in a hole is said to be rotten', async () => {
  expect(await fetchFrom([{ fromIndex: 4, toIndex: 6 }])).toMatchObject({ rotten: { fromIndex: 4, toIndex: 6 } })
})

test('P6: one that only could not be read now is not: who asks would take it for lost', async () => {
  await expect(fetchFrom([])).rejects.toMatchObject({ code: 'SERVICE_NOT_AVAILABLE' })
})
