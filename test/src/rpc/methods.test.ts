/** `methods.ts` against `proto/`: every method, every field, through our codec and through the protobuf library. */
import type { MessageTypeDefinition, ServiceDefinition } from '@grpc/proto-loader'
import { describe, expect, test } from 'vitest'
import { LedgerError } from '../../../src/common/errors.ts'
import * as methods from '../../../src/rpc/methods.ts'
import type { FieldShape, MessageShape } from '../../../src/rpc/object-codec.ts'
import { type AnyMethod, loadDefinition, shapesOf, wireOf } from '../../../src/rpc/protos.ts'
import type { StreamMethod, UnaryMethod } from '../../../src/rpc/transport.ts'

type RequestOf<Method> =
  Method extends UnaryMethod<infer Up, unknown> ? Up : Method extends StreamMethod<infer Up, unknown> ? Up : never
type ReplyOf<Method> =
  Method extends UnaryMethod<never, infer Down> ? Down : Method extends StreamMethod<never, infer Down> ? Down : never
type Samples<Table> = {
  readonly [Key in keyof Table as RequestOf<Table[Key]> extends Buffer ? never : Key]: {
    readonly request: Full<RequestOf<Table[Key]>>
    readonly reply: Full<ReplyOf<Table[Key]>>
  }
}
/** Every field present, also the optional ones. */
type Full<Shape> = Shape extends Buffer
  ? Shape
  : Shape extends readonly (infer Item)[]
    ? readonly Full<Item>[]
    : Shape extends object
      ? { readonly [Key in keyof Shape]-?: Full<Shape[Key]> }
      : Shape

const large = 2 ** 53 - 1
const status: Required<methods.WireStatus> = {
  code: 501,
  message: 'm',
  hint: 'h',
  leaderNode: 'n1',
  leaderAddress: 'a',
  term: 3,
  retryAfterMs: 4,
  minOffset: 5,
  maxOffset: large,
}
const config = { topic: 'orders', readQueues: 8, writeQueues: 7, permission: 6 }
const topic = { config, topicId: large }
const offset = { topic: 'orders', queue: 3, offset: large }
const configuration = {
  cluster: 'c',
  group: 'g',
  incarnation: 'i',
  members: [{ node: 'n0', disk: 'd0', raftAddress: 'a:2' }],
  segmentBytes: 2 ** 30,
  featureLevel: 1,
  formerIncarnations: ['h'],
}
const member = { node: 'n3', disk: 'd3', raftAddress: 'a:3' }
const membership = {
  group: 'g',
  leader: 'n0',
  term: 3,
  index: large,
  committed: true,
  members: [
    {
      ...member,
      address: 'a:4',
      role: 'learner',
      promote: true,
      priority: 5,
      matchIndex: 6,
      connected: true,
      problem: 'p',
    },
  ],
  underWay: 'u',
  lastIndex: 7,
  returning: [member],
  incarnation: 'i',
}

const hello: methods.Hello = {
  cluster: 'c',
  group: 'g',
  incarnation: 'i',
  fromNode: 'n0',
  fromDisk: 'd0',
  toNode: 'n1',
  toDisk: 'd1',
  fromAddress: 'a:1',
  protocolMin: 1,
  protocolMax: 2,
  build: 'b',
  featureLevel: 3,
  membershipIndex: 4,
  fromRaftAddress: 'a:2',
}

const namesrvSamples: Samples<typeof methods.namesrvMethods> = {
  register: {
    request: {
      cluster: 'c',
      group: 'g',
      node: 'n0',
      address: 'a:1',
      incarnation: 'i',
      term: large,
      role: 'leader',
      topics: [topic],
      topicsVersion: 9,
    },
    reply: { intervalMs: 30_000, status },
  },
  getRoute: {
    request: { topics: ['a', ''] },
    reply: {
      version: 4,
      groups: [
        {
          cluster: 'c',
          group: 'g',
          incarnation: 'i',
          term: 4,
          leader: 'n0',
          nodes: [{ node: 'n0', address: 'a:1' }],
        },
      ],
      topics: [{ topic: 'orders', queues: [{ group: 'g', topicId: 4, readQueues: 8, writeQueues: 7, permission: 6 }] }],
    },
  },
  watchRoute: { request: { topics: ['a'] }, reply: { version: 1, groups: [], topics: [] } },
}

const brokerSamples: Samples<typeof methods.brokerMethods> = {
  commitOffsets: {
    request: { group: 'g', member: 'm', generation: 3, offsets: [offset], seek: true },
    reply: { offsets: [offset, offset] },
  },
  fetchOffsets: { request: { group: 'g', queues: [offset] }, reply: { offsets: [offset] } },
  queryOffsets: {
    request: { topic: 't', queue: 1, time: 5 },
    reply: { minOffset: 1, maxOffset: large, offsetByTime: 6, topicId: 7 },
  },
  groupHeartbeat: {
    request: { group: 'g', member: 'm', topics: ['t'], generation: 2, sessionTimeoutMs: 10_000 },
    reply: { generation: 2, queues: [{ topic: 't', queue: 1 }], intervalMs: 3000 },
  },
  leaveGroup: { request: { group: 'g', member: 'm' }, reply: {} },
  probe: { request: {}, reply: { group: 'g', node: 'n0', leader: true } },
}

const adminSamples: Samples<typeof methods.adminMethods> = {
  createTopic: { request: { config, automatic: true }, reply: { topic } },
  updateTopic: { request: { config }, reply: { topic } },
  deleteTopic: { request: { topic: 't', topicId: 5 }, reply: {} },
  describeTopic: {
    request: { topic: 't' },
    reply: { topic, queues: [{ queue: 1, minOffset: 2, maxOffset: 3 }] },
  },
  listTopics: { request: {}, reply: { topics: [topic] } },
  getReplicaStatus: {
    request: {},
    reply: {
      cluster: 'c',
      group: 'g',
      node: 'n0',
      incarnation: 'i',
      role: 'leader',
      reason: 'r',
      term: 1,
      vote: 'n0',
      leader: 'n0',
      firstIndex: 1,
      lastIndex: 2,
      durableIndex: 3,
      commitIndex: 4,
      appliedIndex: 5,
      logBytes: 6,
      diskTotalBytes: 40,
      diskFreeBytes: 30,
      stateHash: 'f',
      pid: 7,
      uptimeMs: 8,
      peers: [{ node: 'n1', raftAddress: 'a', matchIndex: 1, state: 'replicate', connected: true, problem: 'p' }],
      address: 'a:1',
      catchUp: { source: 'n1', phase: 'log', fetchedBytes: 1, totalBytes: large, problem: 'w' },
      quarantine: 'q',
      holes: [{ fromIndex: 1, toIndex: 2 }],
      lost: [{ fromIndex: 3, toIndex: 4 }],
      scrub: { position: 5, passes: 6 },
    },
  },
  getMembership: { request: {}, reply: membership },
  changeMembership: {
    request: { kind: 'add', node: 'n3', raftAddress: 'a:3', learner: true, priority: 4, force: true, incarnation: 'i' },
    reply: membership,
  },
  transferLeadership: { request: { to: 'n1', incarnation: 'i' }, reply: { leader: 'n1', term: 5 } },
  watchEvents: {
    request: { fromSequence: 3 },
    reply: {
      sequence: 1,
      wallMs: 2,
      group: 'g',
      node: 'n',
      term: 3,
      kind: 'k',
      details: { why: 'because', ['__proto__']: 'harmless', constructor: '' },
    },
  },
}

const raftSamples: Samples<typeof methods.raftMethods> = {
  bootstrap: {
    request: {
      cluster: 'c',
      group: 'g',
      fromNode: 'n0',
      fromDisk: 'd0',
      nodeAddresses: ['a', 'b'],
      segmentBytes: 4,
      configuration,
    },
    reply: { disk: 'd', configuration },
  },
  describe: {
    request: { cluster: 'c', group: 'g', fromNode: 'n3', fromDisk: 'd3' },
    reply: {
      node: 'n0',
      disk: 'd0',
      configuration,
      membership: { index: 9, voters: [member], outgoing: [member], learners: [member] },
      firstIndex: 1,
      lastIndex: 2,
      commitIndex: 3,
      term: 4,
      leader: 'n0',
    },
  },
  describeLog: {
    request: { hello },
    reply: {
      firstIndex: 4,
      origin: { position: 4096, index: 3, term: 2, checksum: 0xffff_ffff },
      lastIndex: 9,
      endPosition: large,
      appliedIndex: 8,
      leads: true,
    },
  },
  fetchLog: {
    request: { hello, fromIndex: 1, toIndex: large, bytesMax: 1024, uncommitted: true },
    reply: {
      frames: Buffer.from('frames'),
      firstIndex: 1,
      lastIndex: 2,
      endPosition: 3,
      rotten: { fromIndex: 2, toIndex: 3 },
    },
  },
  fetchState: {
    request: { hello, bytesMax: 1 },
    reply: { appliedIndex: 1, hash: 'h', rows: Buffer.from('rows'), checksum: 7, rowCount: 2, last: true },
  },
}

const tables: readonly [
  Readonly<Record<string, AnyMethod>>,
  Readonly<Record<string, { request: unknown; reply: unknown }>>,
][] = [
  [methods.namesrvMethods, namesrvSamples],
  [methods.brokerMethods, brokerSamples],
  [methods.adminMethods, adminSamples],
  [methods.raftMethods, raftSamples],
]
const all = tables.flatMap(([table, samples]) =>
  Object.entries(table).map(([key, method]) => ({
    method,
    sample: samples[key],
    name: `${method.service}.${method.name}`,
  })),
)
const sampled = all.filter((each) => each.sample !== undefined)
const definition = loadDefinition()

function library(name: string): MessageTypeDefinition<object, object> {
  return definition[`ledgermq.v1.${name}`] as MessageTypeDefinition<object, object>
}

/** Every field of the message and of the messages in it must hold something, except `status`. */
function expectCovered(shape: MessageShape, value: Record<string, unknown>, path: string): void {
  for (const field of shape.fields.values()) {
    if (field.name === 'status' && !(field.name in value)) continue
    expect(value, path).toHaveProperty(field.name)
    expectFieldCovered(field, value[field.name], `${path}.${field.name}`)
  }
  const names = [...shape.fields.values()].map((field) => field.name)
  expect(names, path).toEqual(expect.arrayContaining(Object.keys(value)))
}

function expectFieldCovered(field: FieldShape, value: unknown, path: string): void {
  const one = field.label === 'repeated' ? (value as unknown[])[0] : value
  expect(one, path).toBeTruthy()
  if (typeof field.type === 'object') expectCovered(field.type, one as Record<string, unknown>, path)
}

describe('methods', () => {
  test('every method of the protos has a descriptor and the other way round', () => {
    const declared = Object.entries(definition).flatMap(([name, entry]) =>
      'format' in entry
        ? []
        : Object.keys(entry as ServiceDefinition).map((method) => `${name.slice('ledgermq.v1.'.length)}.${method}`),
    )
    expect(all.map((each) => each.name).sort()).toEqual(declared.sort())
    expect(sampled.length + 4).toBe(all.length)
  })

  test('every method declares its permission', () => {
    for (const { method } of all) expect(method.permission, method.name).toMatch(/^[a-z]+$/)
  })

  test.each(sampled)(
    '$name: request and reply come back as they were and agree with the library',
    ({ method, sample }) => {
      const wire = wireOf(method)
      const shapes = shapesOf(method)
      for (const [codec, shape, value] of [
        [wire.request, shapes.request, sample!.request],
        [wire.reply, shapes.reply, sample!.reply],
      ] as const) {
        const bytes = codec.encode(value)
        expect(codec.decode(bytes)).toEqual(value)
        const relayed = library(shape.name).serialize(library(shape.name).deserialize(bytes))
        expect(codec.decode(relayed)).toEqual(value)
        if (method.name !== 'WatchRoute') expectCovered(shape, value as Record<string, unknown>, shape.name)
      }
    },
  )

  test('what was not sent is zero, empty, or absent where that means something', () => {
    const { reply } = wireOf(methods.brokerMethods.queryOffsets)
    expect(reply.decode(Buffer.alloc(0))).toStrictEqual({ minOffset: 0, maxOffset: 0, topicId: 0 })
    const fetched = wireOf(methods.brokerMethods.fetchOffsets).reply
    const offsets = [
      { topic: 't', queue: 0 },
      { topic: 't', queue: 1, offset: 0 },
    ]
    expect(fetched.decode(fetched.encode({ offsets }))).toStrictEqual({ offsets })
    const bootstrap = wireOf(methods.raftMethods.bootstrap).request
    expect(bootstrap.decode(Buffer.alloc(0))).toStrictEqual({
      cluster: '',
      group: '',
      fromNode: '',
      fromDisk: '',
      nodeAddresses: [],
      segmentBytes: 0,
    })
  })

  test('numbers beyond 2^53 - 1 and values of a wrong type are refused, not rounded', () => {
    const { request } = wireOf(methods.brokerMethods.queryOffsets)
    const beyond = library('QueryOffsetsRequest').serialize({ topic: 't', time: '9007199254740993' })
    expect(() => request.decode(beyond)).toThrow(LedgerError)
    for (const time of [-1, Number.NaN, 0.5, 2 ** 53, '5', {}]) {
      expect(() => request.encode({ topic: 't', queue: 0, time }), String(time)).toThrow(/QueryOffsetsRequest.time/)
    }
    expect(() => request.encode({ topic: 't', queue: 2 ** 32 })).toThrow(/queue/)
    expect(() => request.encode({ topic: 5 })).toThrow(/topic/)
  })

  test('cut-off text, which the library accepts, is refused', () => {
    const bytes = Buffer.from('0a7f41', 'hex')
    expect(() => wireOf(methods.adminMethods.deleteTopic).request.decode(bytes)).toThrow(LedgerError)
  })

  test('a key named __proto__ in a map is a key like any other', () => {
    const { reply } = wireOf(methods.adminMethods.watchEvents)
    const details = JSON.parse('{"__proto__":"x"}') as object
    const decoded = reply.decode(reply.encode({ details })) as { details: Record<string, string> }
    expect(Object.entries(decoded.details)).toEqual([['__proto__', 'x']])
    expect(({} as Record<string, unknown>)['x']).toBeUndefined()
  })
})
