/** `ledgermq topic`: create, update, delete, describe and list topics. */
import type { Command } from 'commander'
import { type ClientFlags, withClient, withClientOptions } from '../options.ts'
import { formatTable, printData, printJson } from '../output.ts'
import { positiveInteger } from '../parse.ts'

interface QueueFlags extends ClientFlags {
  readonly queues: number
}

export function registerTopic(program: Command): void {
  const topic = program.command('topic').description('create, update, delete, describe and list topics')
  const verb = (name: string, description: string): Command =>
    withClientOptions(topic.command(name).description(description))

  verb('create <topic>', 'create a topic on every broker group')
    .option('--queues <n>', 'queues on each broker group', positiveInteger, 8)
    .action(async (name: string, flags: QueueFlags) => {
      await withClient(flags, (client) => client.admin().createTopic({ topic: name, queues: flags.queues }))
      say(
        flags,
        { topic: name, queues: flags.queues },
        `created ${name} with ${flags.queues} queues on each broker group`,
      )
    })
  verb('update <topic>', 'change the number of queues of a topic')
    .requiredOption('--queues <n>', 'queues on each broker group', positiveInteger)
    .action(async (name: string, flags: QueueFlags) => {
      await withClient(flags, (client) => client.admin().updateTopic({ topic: name, queues: flags.queues }))
      say(flags, { topic: name, queues: flags.queues }, `${name} has ${flags.queues} queues on each broker group now`)
    })
  verb('delete <topic>', 'delete a topic with everything in it').action(async (name: string, flags: ClientFlags) => {
    await withClient(flags, (client) => client.admin().deleteTopic(name))
    say(flags, { topic: name, deleted: true }, `deleted ${name}`)
  })
  verb('describe <topic>', 'queues of a topic and their offsets').action(async (name: string, flags: ClientFlags) => {
    const groups = await withClient(flags, (client) => client.admin().describeTopic(name))
    const queues = groups.flatMap(({ group, topic, queues: ranges }) =>
      ranges.map((range) => ({ group, topicId: topic.topicId, ...range })),
    )
    if (flags.output === 'json') printJson(queues)
    else
      printData(
        formatTable(queues, [
          { head: 'GROUP', cell: (row) => row.group },
          { head: 'QUEUE', cell: (row) => row.queue },
          { head: 'MIN', cell: (row) => row.minOffset },
          { head: 'MAX', cell: (row) => row.maxOffset },
        ]),
      )
  })
  verb('list', 'all topics').action(async (flags: ClientFlags) => {
    const found = await withClient(flags, (client) => client.admin().listTopics())
    const topics = found.map(({ group, topic }) => ({ group, topicId: topic.topicId, ...topic.config }))
    if (flags.output === 'json') printJson(topics)
    else
      printData(
        formatTable(topics, [
          { head: 'TOPIC', cell: (row) => row.topic },
          { head: 'GROUP', cell: (row) => row.group },
          { head: 'READ QUEUES', cell: (row) => row.readQueues },
          { head: 'WRITE QUEUES', cell: (row) => row.writeQueues },
          { head: 'PERMISSION', cell: (row) => row.permission },
        ]),
      )
  })
}

function say(flags: ClientFlags, data: unknown, text: string): void {
  if (flags.output === 'json') printJson(data)
  else printData(text)
}
