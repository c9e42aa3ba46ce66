// JDBC against a node: statements, server-side prepared statements, batches, metadata, COPY.
// Usage: java -cp postgresql.jar JdbcTest.java URL

import java.io.StringReader;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.UUID;
import org.postgresql.PGConnection;

class JdbcTest {
    static void same(Object expected, Object got) {
        if (!Objects.equals(expected, got)) throw new AssertionError("expected " + expected + ", got " + got);
    }

    static void types(Connection c) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute("CREATE TABLE types (id INT PRIMARY KEY, b BOOL, i2 INT2, i4 INT4, f4 FLOAT4, f8 FLOAT8, n NUMERIC(12,3), "
                + "t TEXT, x BYTEA, u UUID, d DATE, ts TIMESTAMP, tz TIMESTAMPTZ, a TEXT[])");
        }
        UUID uuid = UUID.fromString("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
        OffsetDateTime at = OffsetDateTime.of(2024, 2, 29, 12, 34, 56, 789_000_000, ZoneOffset.UTC);
        LocalDateTime local = LocalDateTime.of(1969, 12, 31, 23, 59, 59, 999_999_000);
        try (PreparedStatement p = c.prepareStatement("INSERT INTO types VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")) {
            // Often enough that the driver prepares it on the server and turns to binary.
            for (int i = 1; i <= 10; i++) {
                p.setLong(1, i);
                p.setBoolean(2, i % 2 == 0);
                p.setShort(3, (short) -i);
                p.setInt(4, 70000 + i);
                p.setFloat(5, 1.5f);
                p.setDouble(6, 0.1);
                p.setBigDecimal(7, new BigDecimal("12.500"));
                p.setString(8, "it's 漢字 🦀");
                p.setBytes(9, new byte[] {0, -1});
                p.setObject(10, uuid);
                p.setObject(11, LocalDate.of(2024, 2, 29));
                p.setObject(12, local);
                p.setObject(13, at);
                p.setArray(14, c.createArrayOf("text", new String[] {"a b", null, ""}));
                same(1, p.executeUpdate());
            }
        }
        try (PreparedStatement p = c.prepareStatement("SELECT * FROM types WHERE id = ?")) {
            for (int i = 1; i <= 10; i++) {
                p.setLong(1, i);
                try (ResultSet r = p.executeQuery()) {
                    same(true, r.next());
                    same((long) i, r.getLong(1));
                    same(i % 2 == 0, r.getBoolean("b"));
                    same((short) -i, r.getShort("i2"));
                    same(70000 + i, r.getInt("i4"));
                    same(1.5f, r.getFloat("f4"));
                    same(0.1, r.getDouble("f8"));
                    same(new BigDecimal("12.500"), r.getBigDecimal("n"));
                    same("it's 漢字 🦀", r.getString("t"));
                    same(2, r.getBytes("x").length);
                    same(uuid, r.getObject("u"));
                    same(LocalDate.of(2024, 2, 29), r.getObject("d", LocalDate.class));
                    same(local, r.getObject("ts", LocalDateTime.class));
                    same(at, r.getObject("tz", OffsetDateTime.class));
                    same(null, ((String[]) r.getArray("a").getArray())[1]);
                    same(false, r.next());
                }
            }
        }
    }

    static void batches(Connection c) throws SQLException {
        try (Statement s = c.createStatement()) {
            s.execute("CREATE TABLE t (id INT8 PRIMARY KEY, v TEXT)");
        }
        c.setAutoCommit(false);
        try (PreparedStatement p = c.prepareStatement("INSERT INTO t VALUES (?, ?)")) {
            for (int i = 0; i < 1000; i++) {
                p.setLong(1, i);
                p.setString(2, "v" + i);
                p.addBatch();
            }
            same(1000, p.executeBatch().length);
        }
        c.commit();
        // Read in pieces of 100, which takes a portal.
        try (Statement s = c.createStatement()) {
            s.setFetchSize(100);
            int n = 0;
            try (ResultSet r = s.executeQuery("SELECT id FROM t ORDER BY id")) {
                while (r.next()) same((long) n++, r.getLong(1));
            }
            same(1000, n);
        }
        try (Statement s = c.createStatement()) {
            same(1000, s.executeUpdate("DELETE FROM t"));
        }
        c.rollback();
        c.setAutoCommit(true);
    }

    static void errors(Connection c) throws SQLException {
        String[][] wrong = {
            {"INSERT INTO t VALUES (1, 'again')", "23505"}, {"SELECT * FROM nowhere", "42P01"}, {"SELEC 1", "42601"}, {"SELECT 1 / 0", "22012"},
        };
        for (String[] each : wrong) {
            try (Statement s = c.createStatement()) {
                s.execute(each[0]);
                throw new AssertionError(each[0] + " is no error");
            } catch (SQLException e) {
                same(each[1], e.getSQLState());
            }
        }
    }

    static void metadata(Connection c) throws SQLException {
        List<String> tables = new ArrayList<>();
        try (ResultSet r = c.getMetaData().getTables(null, "public", "%", new String[] {"TABLE"})) {
            while (r.next()) tables.add(r.getString("TABLE_NAME"));
        }
        same(List.of("t", "types"), tables);
        List<String> columns = new ArrayList<>();
        try (ResultSet r = c.getMetaData().getColumns(null, "public", "t", "%")) {
            while (r.next()) columns.add(r.getString("COLUMN_NAME") + " " + r.getString("TYPE_NAME") + " " + r.getString("IS_NULLABLE"));
        }
        same(List.of("id int8 NO", "v text YES"), columns);
        try (ResultSet r = c.getMetaData().getPrimaryKeys(null, "public", "t")) {
            same(true, r.next());
            same("id", r.getString("COLUMN_NAME"));
            same("t_pkey", r.getString("PK_NAME"));
        }
    }

    static void copying(Connection c) throws Exception {
        StringBuilder rows = new StringBuilder();
        for (int i = 5000; i < 6000; i++) rows.append(i).append("\tcopied\n");
        long n = c.unwrap(PGConnection.class).getCopyAPI().copyIn("COPY t FROM STDIN", new StringReader(rows.toString()));
        same(1000L, n);
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery("SELECT count(*) FROM t WHERE v = 'copied'")) {
            same(true, r.next());
            same(1000L, r.getLong(1));
        }
    }

    public static void main(String[] arguments) throws Exception {
        // postgres://user@host:port/database
        String[] parts = arguments[0].replaceFirst("postgres://", "").split("@");
        try (Connection c = DriverManager.getConnection("jdbc:postgresql://" + parts[1], parts[0], "")) {
            types(c);
            batches(c);
            errors(c);
            metadata(c);
            copying(c);
        }
        System.out.println("JDBC: ok");
    }
}
