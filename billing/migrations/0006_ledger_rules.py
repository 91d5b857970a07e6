"""Let the database keep the ledger: append-only, every transaction balanced, balances the sum of their entries."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION billing_ledger_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('lf.erase', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER billing_transaction_append_only BEFORE UPDATE OR DELETE ON billing_ledgertransaction
    FOR EACH ROW EXECUTE FUNCTION billing_ledger_append_only();
CREATE TRIGGER billing_entry_append_only BEFORE UPDATE OR DELETE ON billing_ledgerentry
    FOR EACH ROW EXECUTE FUNCTION billing_ledger_append_only();

CREATE FUNCTION billing_ledger_balanced() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sum(seconds) FROM billing_ledgerentry WHERE transaction_id = NEW.transaction_id) <> 0 THEN
        RAISE EXCEPTION 'ledger transaction % does not add up to zero', NEW.transaction_id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER billing_entry_balanced AFTER INSERT ON billing_ledgerentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing_ledger_balanced();

CREATE FUNCTION billing_ledger_sum() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Made at zero first: the sign is looked at when seconds are there, not on the way.
    INSERT INTO billing_balance (team_id, created_at, account, seconds) VALUES (NEW.team_id, now(), NEW.account, 0)
    ON CONFLICT (team_id, account) DO NOTHING;
    UPDATE billing_balance SET seconds = seconds + NEW.seconds
    WHERE team_id = NEW.team_id AND account = NEW.account;
    RETURN NULL;
END $$;
CREATE TRIGGER billing_entry_sum AFTER INSERT ON billing_ledgerentry
    FOR EACH ROW EXECUTE FUNCTION billing_ledger_sum();
"""

BACKWARD = """
DROP TRIGGER billing_entry_sum ON billing_ledgerentry;
DROP FUNCTION billing_ledger_sum();
DROP TRIGGER billing_entry_balanced ON billing_ledgerentry;
DROP FUNCTION billing_ledger_balanced();
DROP TRIGGER billing_entry_append_only ON billing_ledgerentry;
DROP TRIGGER billing_transaction_append_only ON billing_ledgertransaction;
DROP FUNCTION billing_ledger_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0005_ledger")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
