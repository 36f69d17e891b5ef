// Java SDK 1.0.2: send, batch, receive, peek, ack all, and transactions over the stream of single messages.

import io.kubemq.sdk.queue.Message;
import io.kubemq.sdk.queue.Queue;
import io.kubemq.sdk.queue.Transaction;
import io.kubemq.sdk.queue.TransactionMessagesResponse;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

public final class Queues {
    private static final String ADDRESS = System.getenv("RINGMQ_ADDRESS");

    private static void check(Object wanted, Object found) {
        if (!wanted.equals(found)) {
            throw new AssertionError("wanted " + wanted + ", found " + found);
        }
    }

    private static String name(String label) {
        return "java-" + System.nanoTime() + "-" + label;
    }

    private static Queue queue(String name) throws Exception {
        return new Queue(name, "java-1.0.2", ADDRESS);
    }

    private static Message message(String body) {
        return new Message().setBody(body.getBytes(StandardCharsets.UTF_8)).setMetadata("m");
    }

    private static String text(Message message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }

    private static List<String> texts(Iterable<? extends Message> messages) {
        List<String> texts = new ArrayList<>();
        messages.forEach(message -> texts.add(text(message)));
        return texts;
    }

    private static void sendReceivePeek() throws Exception {
        Queue queue = queue(name("order"));
        check(false, queue.SendQueueMessage(message("0")).getIsError());
        queue.SendQueueMessagesBatch(List.of(message("1"), message("2")));
        check(List.of("0", "1", "2"), texts(queue.PeekQueueMessage(10, 1).getMessages()));
        check(List.of("0", "1"), texts(queue.ReceiveQueueMessages(2, 1).getMessages()));
        check(List.of("2"), texts(queue.ReceiveQueueMessages(10, 1).getMessages()));
        check(List.of(), texts(queue.ReceiveQueueMessages(10, 1).getMessages()));
    }

    private static void ackAll() throws Exception {
        Queue queue = queue(name("ack-all"));
        queue.SendQueueMessagesBatch(List.of(message("0"), message("1")));
        check(false, queue.AckAllQueueMessages().getIsError());
        check(List.of(), texts(queue.ReceiveQueueMessages(10, 1).getMessages()));
    }

    private static void ack() throws Exception {
        Queue queue = queue(name("ack"));
        queue.SendQueueMessage(message("x"));
        Transaction transaction = queue.CreateTransaction();
        TransactionMessagesResponse received = transaction.Receive(10, 5);
        check(false, received.getIsError());
        check("x", text(received.getMessage()));
        check(false, transaction.AckMessage().getIsError());
        check(List.of(), texts(queue.ReceiveQueueMessages(10, 1).getMessages()));
    }

    private static void reject() throws Exception {
        String dead = name("dead");
        Queue queue = queue(name("reject"));
        queue.SendQueueMessage(message("x").setMaxReciveCount(1).setMaxReciveQueue(dead));
        Transaction transaction = queue.CreateTransaction();
        check("x", text(transaction.Receive(10, 5).getMessage()));
        check(false, transaction.RejectMessage().getIsError());
        check(List.of("x"), texts(queue(dead).ReceiveQueueMessages(1, 10).getMessages()));
    }

    private static void resend() throws Exception {
        String target = name("target");
        Queue queue = queue(name("resend"));
        queue.SendQueueMessage(message("x"));
        Transaction transaction = queue.CreateTransaction();
        check("x", text(transaction.Receive(10, 5).getMessage()));
        check(false, transaction.ReSend(target).getIsError());
        check(List.of("x"), texts(queue(target).ReceiveQueueMessages(1, 10).getMessages()));
    }

    private static void empty() throws Exception {
        TransactionMessagesResponse none = queue(name("empty")).CreateTransaction().Receive(1, 1);
        check(true, none.getIsError());
        check("Error 138: no new message in queue, wait time expired", none.getError());
    }

    public static void main(String[] arguments) throws Exception {
        sendReceivePeek();
        ackAll();
        ack();
        reject();
        resend();
        empty();
        System.out.println("6 passed");
        System.exit(0);
    }
}
