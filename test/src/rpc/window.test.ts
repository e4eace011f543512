/** The private hooks into grpc-js: that they work, and that it is noticed when they do not. */
import { once } from 'node:events'
import { connect as http2Connect } from 'node:http2'
import { Server } from '@grpc/grpc-js'
import { expect, test } from 'vitest'
import { brokerMethods } from '../../../src/rpc/methods.ts'
import { hookServer, verifyHooks } from '../../../src/rpc/window.ts'
import { bench, until } from './harness.ts'

const hookOptions = {
  connectionWindowBytes: 1,
  streamWindowBytes: 1,
  onSession: () => {},
  admit: () => undefined,
}

test('the self-test passes with the pinned grpc-js', async () => {
  await verifyHooks()
})

test('a server grants a window of 16 MiB to connection and stream', async () => {
  const server = await bench().listen((routes) => {
    routes.unary(brokerMethods.probe, async () => ({ group: '', node: '', leader: false }))
  })
  const session = http2Connect(`http://${server.address}`)
  await once(session, 'remoteSettings')
  await until(() => session.state.remoteWindowSize === 16 * 1024 * 1024)
  await until(() => session.remoteSettings.initialWindowSize === 16 * 1024 * 1024)
  session.destroy()
})

test('a grpc-js whose inside looks different fails loudly', () => {
  expect(() => hookServer(new Server(), hookOptions)).toThrow(/grpc-js changed/)
  const other = new Server()
  Reflect.set(other, 'http2Servers', undefined)
  expect(() => hookServer(other, hookOptions)).toThrow(/grpc-js changed/)
})
